"""AsyncLLM over a scripted core."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest
from fake_core import FakeCoreClient, make_engine

from octavo.errors import EngineDeadError, QueueFullError, RequestTimeoutError, ValidationError
from octavo.frontend.async_llm import AsyncLLM
from octavo.frontend.tokenizer import Tokenizer
from octavo.outputs import RequestOutput
from octavo.params import RequestOutputKind, SamplingParams

TEXT = "The capital of France is Paris, and the capital of Italy is Rome."


def engine_saying(tokenizer: Tokenizer, text: str = TEXT, **options: object) -> tuple[AsyncLLM, FakeCoreClient]:
    ids = [*tokenizer.encode(text), 2]
    client = FakeCoreClient(lambda _: ids, step_seconds=float(options.pop("step_seconds", 0.0)))  # type: ignore[arg-type]
    return make_engine(tokenizer, client, **options), client


async def collect(engine: AsyncLLM, params: SamplingParams, prompt: object = "Hello", **options: object) -> list[RequestOutput]:
    return [output async for output in engine.generate(prompt, params, "r", **options)]  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  (the fake core announces nothing)
        await asyncio.sleep(0)


async def test_delta_outputs_join_to_the_text(tokenizer: Tokenizer) -> None:
    engine, _ = engine_saying(tokenizer)
    outputs = await collect(engine, SamplingParams(max_tokens=None, output_kind=RequestOutputKind.DELTA))
    assert "".join(o.outputs[0].text for o in outputs) == TEXT
    assert [i for o in outputs for i in o.outputs[0].token_ids] == [*tokenizer.encode(TEXT), 2]
    assert [o.finished for o in outputs] == [False] * (len(outputs) - 1) + [True]
    assert outputs[-1].outputs[0].finish_reason == "stop"
    assert outputs[-1].outputs[0].stop_reason is None
    assert outputs[0].request_id == "r"
    assert outputs[0].prompt == "Hello"
    assert outputs[0].prompt_token_ids == tokenizer.encode("Hello")


async def test_cumulative_and_final_outputs(tokenizer: Tokenizer) -> None:
    engine, _ = engine_saying(tokenizer)
    cumulative = await collect(engine, SamplingParams(max_tokens=None))
    texts = [o.outputs[0].text for o in cumulative]
    assert len(texts) > 5
    assert all(b.startswith(a) for a, b in pairwise(texts))
    assert texts[-1] == TEXT
    [final] = await collect(engine, SamplingParams(max_tokens=None, output_kind=RequestOutputKind.FINAL_ONLY))
    assert final.outputs[0] == cumulative[-1].outputs[0]
    assert engine.num_unfinished == 0


async def test_stop_string_ends_the_request_and_tells_the_core(tokenizer: Tokenizer) -> None:
    engine, client = engine_saying(tokenizer)
    outputs = await collect(engine, SamplingParams(max_tokens=None, stop=["is Par"], output_kind=RequestOutputKind.DELTA))
    assert "".join(o.outputs[0].text for o in outputs) == "The capital of France "
    assert outputs[-1].outputs[0].finish_reason == "stop"
    assert outputs[-1].outputs[0].stop_reason == "is Par"
    assert client.aborted == [client.added[0].request_id]


async def test_n_sequences_have_their_own_seeds_and_come_in_windows(tokenizer: Tokenizer) -> None:
    engine, client = engine_saying(tokenizer, max_num_seqs=3)
    [final] = await collect(engine, SamplingParams(n=7, seed=5, max_tokens=4, output_kind=RequestOutputKind.FINAL_ONLY))
    assert [o.index for o in final.outputs] == list(range(7))
    assert all(o.token_ids == tokenizer.encode(TEXT)[:4] and o.finish_reason == "length" for o in final.outputs)
    seeds = [request.sampling.seed for request in client.added]
    assert seeds[0] == 5
    assert len(set(seeds)) == 7
    assert engine.num_unfinished == 0


async def test_closing_the_generator_aborts(tokenizer: Tokenizer) -> None:
    engine, client = engine_saying(tokenizer, step_seconds=0.01)
    generator = engine.generate("Hello", SamplingParams(max_tokens=None), "r")
    await anext(generator)
    await generator.aclose()
    assert client.aborted == [client.added[0].request_id]
    assert engine.num_unfinished == 0


async def test_cancelling_the_consumer_aborts(tokenizer: Tokenizer) -> None:
    engine, client = engine_saying(tokenizer)
    client.hold = asyncio.Event()
    task = asyncio.create_task(collect(engine, SamplingParams(n=2)))
    await until(lambda: len(client.added) >= 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(client.aborted) == sorted(request.request_id for request in client.added)


async def test_abort_by_id_ends_every_request_of_that_id(tokenizer: Tokenizer) -> None:
    engine, client = engine_saying(tokenizer, step_seconds=0.005)
    tasks = [asyncio.create_task(collect(engine, SamplingParams(max_tokens=None))) for _ in range(2)]
    await until(lambda: len(client.added) >= 2)
    await asyncio.sleep(0.02)
    await engine.abort("r")
    for outputs in await asyncio.gather(*tasks):
        assert outputs[-1].finished
        assert outputs[-1].outputs[0].finish_reason == "abort"
    assert len(set(client.aborted)) == 2


async def test_timeout_ends_the_request(tokenizer: Tokenizer) -> None:
    engine, client = engine_saying(tokenizer)
    client.hold = asyncio.Event()
    with pytest.raises(RequestTimeoutError, match=r"0\.05"):
        await collect(engine, SamplingParams(), timeout=0.05)
    assert client.aborted == [client.added[0].request_id]
    assert engine.num_unfinished == 0


async def test_a_dead_core_ends_every_wait(tokenizer: Tokenizer) -> None:
    engine, client = engine_saying(tokenizer)
    client.hold = asyncio.Event()
    tasks = [asyncio.create_task(collect(engine, SamplingParams())) for _ in range(3)]
    await until(lambda: len(client.added) >= 3)
    assert engine.is_running
    client.kill()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 120)
    assert [type(r) for r in results] == [EngineDeadError] * 3
    assert engine.errored
    assert not engine.is_running
    with pytest.raises(EngineDeadError):
        await engine.check_health()
    with pytest.raises(EngineDeadError):
        await collect(engine, SamplingParams())


async def test_full_queue_refuses_but_free_places_do_not_count(tokenizer: Tokenizer) -> None:
    engine, client = engine_saying(tokenizer, max_num_seqs=2, max_num_queued_reqs=3)
    client.hold = asyncio.Event()
    tasks = [asyncio.create_task(collect(engine, SamplingParams(max_tokens=2))) for _ in range(8)]
    await until(lambda: len(client.added) >= 5)
    await asyncio.sleep(0.01)
    client.hold.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [r for r in results if isinstance(r, QueueFullError)]
    assert len(refused) == 3
    assert all(error.retry_after >= 1.0 for error in refused)
    assert len(await collect(engine, SamplingParams(max_tokens=2))) > 0


async def test_waiting_prompt_tokens_are_bounded_but_one_long_prompt_may_come(tokenizer: Tokenizer) -> None:
    engine, client = engine_saying(tokenizer, max_num_queued_tokens=100)
    client.hold = asyncio.Event()
    long = asyncio.create_task(collect(engine, SamplingParams(max_tokens=1), [5] * 150))
    await until(lambda: bool(client.added))
    with pytest.raises(QueueFullError, match="prompt tokens"):
        await collect(engine, SamplingParams(max_tokens=1), [5] * 10)
    client.hold.set()
    assert (await long)[-1].finished


async def test_bad_input_never_reaches_the_core(tokenizer: Tokenizer) -> None:
    engine, client = engine_saying(tokenizer)
    with pytest.raises(ValidationError, match="vocabulary"):
        await collect(engine, SamplingParams(), [5, 999999])
    with pytest.raises(ValidationError, match="64-bit"):
        await collect(engine, SamplingParams(), priority=2**63)
    with pytest.raises(ValidationError, match="request_id"):
        await anext(engine.generate("Hello", SamplingParams(), 5))  # type: ignore[arg-type]
    assert client.added == []


async def test_another_event_loop_is_refused(tokenizer: Tokenizer) -> None:
    engine, _ = engine_saying(tokenizer)
    await collect(engine, SamplingParams(max_tokens=1))
    with pytest.raises(RuntimeError, match="event loop"):
        await asyncio.to_thread(asyncio.run, collect(engine, SamplingParams(max_tokens=1)))


async def test_a_slow_consumer_gets_merged_deltas(tokenizer: Tokenizer) -> None:
    engine, client = engine_saying(tokenizer)
    generator = engine.generate("Hello", SamplingParams(max_tokens=None, output_kind=RequestOutputKind.DELTA), "r")
    first = await anext(generator)
    await asyncio.sleep(0.1)
    second = await anext(generator)
    assert second.finished
    assert first.outputs[0].text + second.outputs[0].text == TEXT
    await generator.aclose()
    assert client.aborted == []


class Sink:
    def __init__(self) -> None:
        self.taken: list[RequestOutput] = []
        self.open = True

    def ready(self) -> bool:
        return self.open

    def put(self, output: RequestOutput) -> None:
        self.taken.append(output)


async def test_a_sink_takes_all_but_the_last_and_nothing_while_it_is_not_ready(tokenizer: Tokenizer) -> None:
    engine, _ = engine_saying(tokenizer, step_seconds=0.001)
    sink, params = Sink(), SamplingParams(max_tokens=None, output_kind=RequestOutputKind.DELTA)
    generator = engine.generate("Hello", params, "r", sink=sink)
    following = asyncio.ensure_future(anext(generator))
    await until(lambda: len(sink.taken) == 3)
    assert not following.done()
    sink.open = False
    fourth = await following
    assert not fourth.finished
    [state] = engine._outputs.find("r")
    await until(lambda: state.metrics.num_generation_tokens >= 6)
    sink.open = True
    merged = await anext(generator)
    assert len(merged.outputs[0].token_ids) >= 2, "what came while nobody waited is one output"
    last = await anext(generator)
    assert last.finished
    pieces = [*sink.taken[:3], fourth, merged, *sink.taken[3:], last]
    assert "".join(piece.outputs[0].text for piece in pieces) == TEXT
    assert len(sink.taken) > 4
    await generator.aclose()


async def test_a_sink_that_fails_ends_its_request(tokenizer: Tokenizer) -> None:
    engine, client = engine_saying(tokenizer)
    sink = Sink()
    sink.put = lambda _: 1 / 0  # type: ignore[assignment, method-assign]
    with pytest.raises(ZeroDivisionError):
        await collect(engine, SamplingParams(max_tokens=None), sink=sink)
    assert client.aborted == [client.added[0].request_id]
    assert (await collect(engine, SamplingParams(max_tokens=2)))[-1].finished


async def test_shutdown_ends_waiting_requests(tokenizer: Tokenizer) -> None:
    engine, client = engine_saying(tokenizer)
    client.hold = asyncio.Event()
    task = asyncio.create_task(collect(engine, SamplingParams()))
    await until(lambda: bool(client.added))
    async with engine:
        pass
    with pytest.raises(EngineDeadError, match="shut down"):
        await task
    assert client.closed
    assert not engine.errored
