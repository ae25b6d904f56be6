"""What RequestOutputs hold: logprobs, prompt logprobs, metrics, intervals, failures of one request."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from fake_core import FakeCoreClient, make_engine

from octavo.errors import RequestFailedError
from octavo.flat_logprobs import FlatLogprobs
from octavo.frontend.async_llm import AsyncLLM
from octavo.frontend.log_stats import LoggingStatLogger
from octavo.frontend.sequence_output import SequenceOutput
from octavo.frontend.stats import FinishedRequest, IterationStats
from octavo.frontend.tokenizer import Tokenizer
from octavo.outputs import Logprob, RequestOutput
from octavo.params import RequestOutputKind, SamplingParams
from octavo.wire.messages import CoreOutputs, FinishReason, RequestUpdate, SchedulerStats

DELTA, CUMULATIVE, FINAL = RequestOutputKind.DELTA, RequestOutputKind.CUMULATIVE, RequestOutputKind.FINAL_ONLY


class Recorder:
    def __init__(self) -> None:
        self.iterations: list[IterationStats] = []
        self.finished: list[FinishedRequest] = []

    def record(self, scheduler: SchedulerStats | None, iteration: IterationStats) -> None:
        self.iterations.append(iteration)
        self.finished += iteration.finished


def engine_with(tokenizer: Tokenizer | None, ids: list[int], **options: Any) -> AsyncLLM:
    return make_engine(tokenizer, FakeCoreClient(lambda _: ids), **options)


async def collect(engine: AsyncLLM, prompt: Any = "Hello", **params: Any) -> list[RequestOutput]:
    return [output async for output in engine.generate(prompt, SamplingParams(**params), "r")]


async def test_logprobs_hold_the_sampled_token_and_the_top(tokenizer: Tokenizer) -> None:
    ids = [100, 1, 2]
    for kind in (DELTA, CUMULATIVE, FINAL):
        outputs = await collect(engine_with(tokenizer, ids), logprobs=2, output_kind=kind)
        last = outputs[-1].outputs[0]
        assert last.cumulative_logprob == pytest.approx(-1.5)
        positions = [p for o in outputs for p in o.outputs[0].logprobs or []] if kind is DELTA else list(last.logprobs or [])
        assert [list(position) for position in positions] == [[100, 0, 1], [1, 0], [2, 0, 1]]
        assert positions[0][100] == Logprob(pytest.approx(-0.5), 2, tokenizer.token_text(100))
        assert positions[0][0].rank == 1
        assert positions[1][1].rank == 2, "the sampled token keeps its own entry"


async def test_logprobs_stop_where_the_tokens_do(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("the answer to the question")
    [final] = await collect(
        engine_with(tokenizer, [*ids, 5, 6, 7]), logprobs=0, stop="answer", max_tokens=None, output_kind=FINAL
    )
    output = final.outputs[0]
    assert output.text == "the "
    assert output.logprobs is not None
    assert len(output.logprobs) == len(output.token_ids)
    assert tokenizer.decode(output.token_ids).startswith("the answer")


async def test_prompt_logprobs_come_whole(tokenizer: Tokenizer) -> None:
    prompt = [10, 11, 12, 13]
    for kind in (DELTA, CUMULATIVE):
        outputs = await collect(engine_with(tokenizer, [100, 101, 2]), prompt, prompt_logprobs=1, output_kind=kind)
        scores = outputs[0].prompt_logprobs
        assert scores is not None
        assert scores[0] is None
        assert [next(iter(p)) for p in scores[1:] if p is not None] == [11, 12, 13]
        assert (outputs[-1].prompt_logprobs is None) == (kind is DELTA)


async def test_flat_logprobs_read_like_lists(tokenizer: Tokenizer) -> None:
    options = {"logprobs": 2, "prompt_logprobs": 1, "output_kind": FINAL}
    [plain] = await collect(engine_with(tokenizer, [100, 101, 2]), [5, 6, 7], **options)
    [flat] = await collect(engine_with(tokenizer, [100, 101, 2]), [5, 6, 7], flat_logprobs=True, **options)
    assert isinstance(flat.outputs[0].logprobs, FlatLogprobs)
    assert flat.outputs[0].logprobs == plain.outputs[0].logprobs
    assert flat.prompt_logprobs == plain.prompt_logprobs
    streamed = [
        o.outputs[0].logprobs
        for o in await collect(
            engine_with(tokenizer, [100, 101, 2]), [5, 6, 7], flat_logprobs=True, **{**options, "output_kind": DELTA}
        )
    ]
    joined = FlatLogprobs()
    for part in streamed:
        joined.extend(part or [])
    assert joined == plain.outputs[0].logprobs
    assert flat.outputs[0].logprobs[1:] == (plain.outputs[0].logprobs or [])[1:]
    assert flat.outputs[0].logprobs[-1] == (plain.outputs[0].logprobs or [])[-1]


async def test_stream_interval_gathers_tokens(tokenizer: Tokenizer) -> None:
    client = FakeCoreClient(lambda _: [100] * 20, step_seconds=0.002)
    engine = make_engine(tokenizer, client, stream_interval=2)
    for wanted, expected in ((None, 2), (1, 2), (5, 5)):
        outputs = await collect(engine, max_tokens=11, output_kind=DELTA, stream_interval=wanted)
        sizes = [len(o.outputs[0].token_ids) for o in outputs]
        assert sizes[0] == 1, "the first token is not kept waiting"
        assert set(sizes[1:-1]) == {expected}
        assert sum(sizes) == 11


async def test_the_stop_token_is_in_the_ids_but_not_in_the_text(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode("the answer"), 300]
    hidden = {"stop_token_ids": [300], "max_tokens": None, "output_kind": FINAL}
    [output] = await collect(engine_with(tokenizer, ids), **hidden)
    assert output.outputs[0].text == "the answer"
    assert output.outputs[0].token_ids == ids
    assert output.outputs[0].stop_reason == 300
    [output] = await collect(engine_with(tokenizer, ids), include_stop_str_in_output=True, **hidden)
    assert output.outputs[0].text == "the answer" + tokenizer.token_text(300)


async def test_held_back_text_comes_out_at_the_end(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("the answer")
    outputs = await collect(engine_with(tokenizer, ids), stop=["answer!"], max_tokens=len(ids), output_kind=DELTA)
    assert "".join(o.outputs[0].text for o in outputs) == "the answer"
    assert outputs[-1].outputs[0].finish_reason == "length"


async def test_an_unfinished_character_comes_out_at_the_end(tokenizer: Tokenizer) -> None:
    half = next(i for i in range(tokenizer.vocab_size) if tokenizer.token_bytes(i) == b"\xf0")
    [output] = await collect(engine_with(tokenizer, [half]), max_tokens=1, output_kind=FINAL)
    assert output.outputs[0].text == "\ufffd" == tokenizer.decode([half])


async def test_min_tokens_holds_for_stop_strings(tokenizer: Tokenizer) -> None:
    ids = [t for _ in range(6) for t in tokenizer.encode(" the")]
    [output] = await collect(engine_with(tokenizer, ids), stop="the", min_tokens=3, max_tokens=None, output_kind=FINAL)
    assert len(tokenizer.encode(" the")) == 1
    assert len(output.outputs[0].token_ids) == 4
    assert output.outputs[0].text == tokenizer.decode(ids[:4]).removesuffix("the")


async def test_without_detokenize_there_is_no_text(tokenizer: Tokenizer) -> None:
    for engine, prompt in ((engine_with(tokenizer, [100, 101, 2]), "Hello"), (engine_with(None, [100, 101, 2]), [5])):
        [output] = await collect(engine, prompt, detokenize=False, logprobs=1, output_kind=FINAL)
        assert (output.outputs[0].text, output.outputs[0].token_ids) == ("", [100, 101, 2])
        assert output.outputs[0].logprobs is not None
        assert output.outputs[0].logprobs[0][100].decoded_token is None


async def test_one_failing_request_leaves_the_others_alone(tokenizer: Tokenizer) -> None:
    client = FakeCoreClient(lambda _: [100] * 5)
    step = client._step

    def failing() -> CoreOutputs:
        outputs = step()
        for update in outputs.updates:
            if "-bad" in update.request_id:
                update.new_token_ids, update.finish_reason, update.error = [], FinishReason.ERROR, "logits are not finite"
        return outputs

    client._step = failing  # type: ignore[method-assign]
    engine = make_engine(tokenizer, client)
    bad = engine.generate("Hello", SamplingParams(n=2), "bad")
    good = asyncio.create_task(collect(engine, max_tokens=5))
    with pytest.raises(RequestFailedError, match="not finite"):
        await anext(bad)
    assert (await good)[-1].finished
    assert engine.num_unfinished == 0


async def test_a_fault_of_ours_in_one_output_is_that_requests(
    tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = FakeCoreClient(lambda _: [100] * 5)
    engine = make_engine(tokenizer, client)
    add_tokens = SequenceOutput._add_tokens

    def faulty(self: SequenceOutput, update: RequestUpdate, num_kept: int) -> None:
        if update.request_id == client.added[0].request_id:
            raise ZeroDivisionError
        add_tokens(self, update, num_kept)

    monkeypatch.setattr(SequenceOutput, "_add_tokens", faulty)
    results = await asyncio.gather(*(collect(engine, max_tokens=5) for _ in range(2)), return_exceptions=True)
    assert sorted(type(r).__name__ for r in results) == ["RequestFailedError", "list"]
    assert len(client.aborted) == 1
    assert "ZeroDivisionError" in caplog.text


async def test_updates_for_unknown_requests_are_ignored(tokenizer: Tokenizer) -> None:
    engine = engine_with(tokenizer, [100])
    follow_up = await engine._outputs.process(CoreOutputs([RequestUpdate("nobody", new_token_ids=[5])], 0.0))
    assert (follow_up.aborts, follow_up.due) == ([], [])


async def test_measures_of_a_request(tokenizer: Tokenizer) -> None:
    recorder = Recorder()
    engine = engine_with(tokenizer, [100] * 4, stat_loggers=[recorder])
    [output] = await collect(engine, [5] * 7, n=2, max_tokens=4, output_kind=FINAL)
    [finished] = recorder.finished
    assert (finished.finish_reason, finished.num_prompt_tokens, finished.n, finished.max_tokens) == ("length", 7, 2, 4)
    assert finished.num_generation_tokens == 8
    assert sum(i.num_generation_tokens for i in recorder.iterations) == 8
    assert sum(i.num_prompt_tokens for i in recorder.iterations) == 7
    assert sum(len(i.time_to_first_token) for i in recorder.iterations) == 1
    assert sum(len(i.inter_token_latency) for i in recorder.iterations) == 6
    metrics = output.metrics
    assert metrics is not None
    assert (
        0 < metrics.arrival_time <= metrics.queued_ts <= metrics.scheduled_ts <= metrics.first_token_ts <= metrics.last_token_ts
    )


async def test_a_failing_stat_logger_is_dropped_and_nothing_else(
    tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def record(self, scheduler: SchedulerStats | None, iteration: IterationStats) -> None:
            raise ZeroDivisionError

    recorder = Recorder()
    engine = engine_with(tokenizer, [100] * 4, stat_loggers=[Broken(), recorder])
    assert (await collect(engine, max_tokens=4))[-1].finished
    assert len(recorder.finished) == 1
    assert caplog.text.count("gets no more measures") == 1


async def test_an_aborted_request_is_measured_once(tokenizer: Tokenizer) -> None:
    recorder = Recorder()
    client = FakeCoreClient(lambda _: [100] * 50, step_seconds=0.002)
    engine = make_engine(tokenizer, client, stat_loggers=[recorder])
    generator = engine.generate("Hello", SamplingParams(max_tokens=50), "r")
    await anext(generator)
    await generator.aclose()
    await asyncio.sleep(0.01)
    assert [f.finish_reason for f in recorder.finished] == ["abort"]


def test_log_line_tells_rates_and_state(caplog: pytest.LogCaptureFixture) -> None:
    stat_logger = LoggingStatLogger(interval=0.0)
    with caplog.at_level(logging.INFO, "octavo.frontend.log_stats"):
        state = SchedulerStats(3, 4, 0.25, prefix_queries=10, prefix_hits=5, num_preemptions=1)
        stat_logger.record(state, IterationStats(num_prompt_tokens=10, num_generation_tokens=5))
    [line] = caplog.messages
    assert all(part in line for part in ("running 3", "waiting 4", "25.0%", "prefix hits 50.0%", "preemptions 1"))
    quiet = LoggingStatLogger(interval=1000.0)
    caplog.clear()
    quiet.record(None, IterationStats())
    assert caplog.messages == []
