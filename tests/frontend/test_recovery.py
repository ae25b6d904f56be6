"""Requests that outlive the core, over scripted cores."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable

import pytest
from fake_core import FakeCoreClient, make_engine

from octavo.errors import EngineDeadError, OctavoError, RequestRefusedError
from octavo.frontend.async_llm import AsyncLLM
from octavo.frontend.metrics import PrometheusStats
from octavo.frontend.recovery import fingerprint
from octavo.frontend.tokenizer import Tokenizer
from octavo.outputs import RequestOutput
from octavo.params import RequestOutputKind, SamplingParams

TEXT = "The capital of France is Paris, and the capital of Italy is Rome. A server reads a request, puts it into a queue."
DELTA = RequestOutputKind.DELTA


def engine_saying(tokenizer: Tokenizer, text: str = TEXT, **options: object) -> tuple[AsyncLLM, FakeCoreClient]:
    ids = [*tokenizer.encode(text), 2]
    client = FakeCoreClient(lambda _: ids, max_num_seqs=int(options.get("max_num_seqs", 8)))  # type: ignore[call-overload]
    client.owned = True
    return make_engine(tokenizer, client, **options), client


async def collect(engine: AsyncLLM, params: SamplingParams, prompt: object = "Hello") -> list[RequestOutput]:
    return [output async for output in engine.generate(prompt, params, "r")]  # type: ignore[arg-type]


async def error_of(engine: AsyncLLM, params: SamplingParams, prompt: object = "Hello") -> OctavoError | None:
    try:
        await collect(engine, params, prompt)
    except OctavoError as error:
        return error
    return None


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  (the fake core announces nothing)
        await asyncio.sleep(0)


def dies_at_steps(client: FakeCoreClient, *steps: int, exit_code: int = -signal.SIGKILL) -> None:
    """Each core dies before its step of that number; a number fewer lives."""
    left = list(steps)
    count = 0

    def on_step(core: FakeCoreClient, _: set[str]) -> None:
        nonlocal count
        count += 1
        if left and count > left[0]:
            count = 0
            left.pop(0)
            core.kill(exit_code)

    client.on_step = on_step


def dies_with(client: FakeCoreClient, poisonous: Callable[[str], bool], exit_code: int = -signal.SIGSEGV) -> None:
    """A core dies of a step that such a request is in."""

    def on_step(core: FakeCoreClient, ids: set[str]) -> None:
        if any(map(poisonous, ids)):
            core.kill(exit_code)

    client.on_step = on_step


@pytest.mark.parametrize("kind", list(RequestOutputKind))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n": 3, "temperature": 1.0, "seed": 4},
        {"logprobs": 2, "prompt_logprobs": 1},
        {"logprobs": 1, "flat_logprobs": True, "prompt_logprobs": 0},
        {"stop": ["puts it"]},
        {"stop": ["Rome"], "min_tokens": 20},
        {"max_tokens": 9},
    ],
)
async def test_the_outputs_are_those_of_a_core_that_lives(
    tokenizer: Tokenizer, kind: RequestOutputKind, options: dict[str, object]
) -> None:
    params = SamplingParams(**{"max_tokens": None, "output_kind": kind, **options})  # type: ignore[arg-type]

    def joined(outputs: list[RequestOutput]) -> list[object]:
        parts = outputs if kind is DELTA else outputs[-1:]
        choices: dict[int, list[object]] = {}
        for output in parts:
            for one in output.outputs:
                whole = choices.setdefault(one.index, ["", [], [], None, None])
                whole[0] += one.text  # type: ignore[operator]
                whole[1] += list(one.token_ids)  # type: ignore[operator]
                whole[2] += list(one.logprobs or [])  # type: ignore[operator]
                whole[3:] = one.finish_reason, one.stop_reason
        scores = next((list(o.prompt_logprobs) for o in parts if o.prompt_logprobs is not None), None)
        return [choices, scores, outputs[-1].num_cached_tokens]

    engine, _ = engine_saying(tokenizer)
    expected = joined(await collect(engine, params))
    for steps in ((0,), (1,), (3,), (2, 0, 4), (1, 1, 1, 1, 1)):
        engine, client = engine_saying(tokenizer)
        dies_at_steps(client, *steps)
        outputs = await asyncio.wait_for(collect(engine, params), 30)
        assert joined(outputs) == expected
        assert engine.num_unfinished == 0
        assert not engine.restarting


async def test_a_new_core_gets_what_was_asked_and_what_has_come(tokenizer: Tokenizer) -> None:
    engine, client = engine_saying(tokenizer)
    dies_at_steps(client, 4, 3)
    await collect(engine, SamplingParams(n=2, temperature=1.0, seed=9, max_tokens=20, output_kind=DELTA))
    third = engine._client
    second = third.predecessor  # type: ignore[attr-defined]
    ids = tokenizer.encode(TEXT)
    for core, number in ((client, 0), (second, 4), (third, 7)):
        assert [request.output_token_ids for request in core.added] == [ids[:number]] * 2
        assert [request.sampling.seed for request in core.added] == [r.sampling.seed for r in client.added]
        assert [request.prompt_token_ids for request in core.added] == [tokenizer.encode("Hello")] * 2


async def test_requests_come_and_go_while_there_is_no_core(tokenizer: Tokenizer) -> None:
    stats = PrometheusStats()
    engine, client = engine_saying(tokenizer, stat_loggers=[stats])
    ready = asyncio.Event()
    start_up = FakeCoreClient.start_up

    async def slow_start(self: FakeCoreClient, timeout: float) -> object:  # noqa: ASYNC109
        await ready.wait()
        return await start_up(self, timeout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeCoreClient, "start_up", slow_start)
        dies_at_steps(client, 3)
        stays = asyncio.create_task(collect(engine, SamplingParams(max_tokens=10, output_kind=DELTA)))
        leaves = asyncio.create_task(collect(engine, SamplingParams(max_tokens=10)))
        await until(lambda: engine.restarting and engine._recovery.holding)
        await engine.check_health()
        assert engine.is_running
        assert not engine.errored
        leaves.cancel()
        comes = asyncio.create_task(collect(engine, SamplingParams(max_tokens=6)))
        asked = asyncio.create_task(engine.reset_prefix_cache())
        await asyncio.sleep(0.01)
        assert not asked.done()
        ready.set()
        assert len([i for o in await stays for i in o.outputs[0].token_ids]) == 10
        assert (await comes)[-1].outputs[0].token_ids == tokenizer.encode(TEXT)[:6]
        assert await asked
    with pytest.raises(asyncio.CancelledError):
        await leaves
    assert [len(request.output_token_ids) for request in engine._client.added] == [3, 0]  # type: ignore[attr-defined]
    assert b"octavo:core_restarts_total" in stats.text()
    assert stats._counts["core_restarts"] == 1
    assert stats._counts["generation_tokens"] == 3 + 3 + 7 + 6
    assert engine._admission._running == engine._admission._not_scheduled == 0


async def test_kills_from_outside_blame_nobody(tokenizer: Tokenizer) -> None:
    engine, client = engine_saying(tokenizer)
    dies_at_steps(client, *[0] * 20, 2, *[0] * 20)
    outputs = await asyncio.wait_for(collect(engine, SamplingParams(max_tokens=5)), 30)
    assert outputs[-1].outputs[0].token_ids == tokenizer.encode(TEXT)[:5]


async def test_a_request_that_two_cores_died_of_is_refused_by_its_fingerprint(
    tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    engine, client = engine_saying(tokenizer)
    dies_with(client, lambda _: True)
    error = await asyncio.wait_for(error_of(engine, SamplingParams(max_tokens=5), "my secret"), 30)
    assert isinstance(error, RequestRefusedError)
    processed = await engine.input_processor.process("my secret", SamplingParams(max_tokens=5))
    assert fingerprint(processed) in str(error)
    assert fingerprint(processed) in caplog.text
    assert "secret" not in caplog.text
    await until(lambda: not engine.restarting)
    second = engine._client.predecessor  # type: ignore[attr-defined]
    assert second.predecessor is client, "two cores, not three"
    engine._client.on_step = None  # type: ignore[attr-defined]
    assert (await collect(engine, SamplingParams(max_tokens=2)))[-1].finished


async def test_progress_between_two_deaths_clears_a_request(tokenizer: Tokenizer) -> None:
    engine, client = engine_saying(tokenizer)
    dies_at_steps(client, 0, 1, 1, 2, exit_code=-signal.SIGABRT)
    outputs = await asyncio.wait_for(collect(engine, SamplingParams(max_tokens=8)), 30)
    assert len(outputs[-1].outputs[0].token_ids) == 8


async def test_among_many_only_the_one_is_refused(tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    engine, client = engine_saying(tokenizer, max_num_seqs=4)
    params = [SamplingParams(max_tokens=8 + i, output_kind=DELTA) for i in range(7)]
    tasks = [asyncio.create_task(error_of(engine, one)) for one in params[:3]]
    await until(lambda: len(client.added) >= 3)
    tasks.append(asyncio.create_task(error_of(engine, SamplingParams(max_tokens=5), "poison")))
    await until(lambda: len(client.added) >= 4)
    poison = client.added[3].request_id
    dies_with(client, lambda core_id: core_id == poison)
    tasks += [asyncio.create_task(error_of(engine, one)) for one in params[3:]]
    results = await asyncio.wait_for(asyncio.gather(*tasks), 30)
    assert [type(result) for result in results] == [type(None)] * 3 + [RequestRefusedError] + [type(None)] * 4
    assert caplog.text.count("is refused") == 1
    assert caplog.text.count("starting another") <= 3
    assert not engine.restarting


async def test_a_request_on_trial_that_leaves_lets_the_others_go_on(tokenizer: Tokenizer) -> None:
    engine, client = engine_saying(tokenizer)
    tasks = [asyncio.create_task(collect(engine, SamplingParams(max_tokens=6))) for _ in range(3)]
    await until(lambda: len(client.added) >= 3)
    dies_at_steps(client, 0, 0, exit_code=-signal.SIGSEGV)
    hold = asyncio.Event()
    started = 0

    def on_start(core: FakeCoreClient) -> None:
        nonlocal started
        started += 1
        if started == 2:
            core.hold = hold

    client.on_start = on_start
    await until(lambda: engine._recovery.on_trial)
    assert [request.request_id for request in engine._client.added] == [client.added[0].request_id]  # type: ignore[attr-defined]
    tasks[0].cancel()
    hold.set()
    for task in tasks[1:]:
        assert len((await asyncio.wait_for(task, 30))[-1].outputs[0].token_ids) == 6


async def test_too_many_deaths_end_the_engine(tokenizer: Tokenizer) -> None:
    engine, client = engine_saying(tokenizer)
    dies_at_steps(client, *range(1, 20), exit_code=-signal.SIGBUS)
    results = await asyncio.wait_for(asyncio.gather(*(error_of(engine, SamplingParams(max_tokens=None)) for _ in range(3))), 30)
    assert all(isinstance(error, EngineDeadError) and "5 times" in str(error) for error in results)
    assert engine.errored
    assert not engine.restarting
    with pytest.raises(EngineDeadError, match="--max-core-restarts"):
        await engine.check_health()


async def test_shutdown_while_there_is_no_core(tokenizer: Tokenizer) -> None:
    engine, client = engine_saying(tokenizer)
    dies_at_steps(client, 2)

    async def never(self: FakeCoreClient, timeout: float) -> object:  # noqa: ASYNC109
        await asyncio.Event().wait()
        return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeCoreClient, "start_up", never)
        task = asyncio.create_task(error_of(engine, SamplingParams(max_tokens=10)))
        await until(lambda: engine._recovery.holding)
        await asyncio.sleep(0.02)
        await asyncio.to_thread(engine.shutdown)
        assert isinstance(await asyncio.wait_for(task, 30), EngineDeadError)
    assert engine._client.closed  # type: ignore[attr-defined]


async def test_a_fingerprint_is_of_prompt_and_parameters(tokenizer: Tokenizer) -> None:
    engine, _ = engine_saying(tokenizer)

    async def mark(prompt: str, **options: object) -> str:
        return fingerprint(await engine.input_processor.process(prompt, SamplingParams(**options)))  # type: ignore[arg-type]

    assert await mark("a") == await mark("a")
    marks = [await mark("a"), await mark("b"), await mark("a", seed=1), await mark("a", max_tokens=3), await mark("a", n=2)]
    assert len(set(marks)) == 5
