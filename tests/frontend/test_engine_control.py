"""AsyncLLM's housekeeping: pause, sleep, statistics, submitting without a generator."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

import pytest
from fake_core import FakeCoreClient, make_engine

from octavo.config import EngineArgs
from octavo.errors import QueueFullError, RequestFailedError, ValidationError
from octavo.frontend.async_llm import AsyncLLM
from octavo.frontend.log_stats import LoggingStatLogger
from octavo.frontend.output_stream import OutputStream
from octavo.frontend.tokenizer import Tokenizer
from octavo.outputs import RequestOutput
from octavo.params import RequestOutputKind, SamplingParams

FINAL = SamplingParams(max_tokens=40, temperature=0.0, ignore_eos=True, output_kind=RequestOutputKind.FINAL_ONLY)


async def last(engine: AsyncLLM, request_id: str, params: SamplingParams = FINAL) -> RequestOutput:
    return [output async for output in engine.generate("Hello", params, request_id)][-1]


LONG = SamplingParams(max_tokens=1000, temperature=0.0, ignore_eos=True)


def start(model: Path) -> AsyncLLM:
    args = EngineArgs(model=str(model), dtype="float32", num_gpu_blocks_override=256, num_threads=1, max_model_len=1024)
    return AsyncLLM.from_engine_args(args)


async def paused_in_the_middle(engine: AsyncLLM, mode: str) -> tuple[OutputStream, RequestOutput]:
    """A long request, and its output as a pause left it. On a busy machine it may be over before the pause: then once more."""
    for _ in range(50):
        stream = await engine.add_request("r", "Hello", LONG)
        output = await stream.get()
        await engine.pause_generation(mode=mode)
        assert await engine.is_paused()
        for _ in range(3):
            await engine.core_stats()
            output = stream.get_nowait() or output
        if mode == "wait" or output.outputs[0].finish_reason != "length":
            return stream, output
        await engine.resume_generation()
    raise AssertionError("every request was over before the pause")


async def test_a_pause_ends_waits_for_or_keeps_what_runs(tiny_model_dir: Path) -> None:
    """Over the real core: what is kept goes on where it was."""
    async with start(tiny_model_dir) as engine:
        whole = (await last(engine, "whole", LONG)).outputs[0].token_ids
        for mode in ("keep", "wait", "abort"):
            stream, output = await paused_in_the_middle(engine, mode)
            later = asyncio.create_task(last(engine, "later"))
            for _ in range(3):
                await engine.core_stats()
                assert stream.get_nowait() is None
            assert not later.done(), "new requests wait"
            assert output.finished is (mode != "keep")
            await engine.resume_generation()
            assert not await engine.is_paused()
            completion = [output, *[late async for late in stream]][-1].outputs[0]
            assert completion.finish_reason == ("abort" if mode == "abort" else "length")
            assert completion.token_ids == whole[: len(completion.token_ids)]
            assert (await later).outputs[0].token_ids == whole[:40]
        await engine.sleep(2, mode="keep")
        with pytest.raises(ValidationError, match="asleep"):
            await engine.resume_generation()
        await engine.wake_up()
        stats = await engine.core_stats()
        assert stats["num_running"] == stats["num_waiting"] == 0


async def test_a_core_that_takes_the_place_of_a_paused_one_is_paused(tiny_model_dir: Path) -> None:
    async with start(tiny_model_dir) as engine:
        whole = (await last(engine, "whole", LONG)).outputs[0].token_ids
        stream, output = await paused_in_the_middle(engine, "keep")
        first = engine.ready.pid
        os.kill(first, signal.SIGKILL)
        while engine.ready.pid == first:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert await engine.is_paused()
        assert stream.get_nowait() is None
        await engine.sleep(1, mode="keep")
        second = engine.ready.pid
        os.kill(second, signal.SIGKILL)
        while engine.ready.pid == second:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert await engine.is_sleeping()
        await engine.wake_up()
        assert not await engine.is_paused()
        completion = [output, *[late async for late in stream]][-1].outputs[0]
        assert completion.token_ids == whole


async def test_while_a_pause_waits_nobody_new_gets_in(tokenizer: Tokenizer) -> None:
    client = FakeCoreClient(lambda _: [5, 6, 2])
    client.hold = asyncio.Event()
    engine = make_engine(tokenizer, client)
    stream = await engine.add_request("runs", "Hello", FINAL)
    pausing = asyncio.create_task(engine.pause_generation(wait_for_inflight_requests=True, clear_cache=False))
    await asyncio.sleep(0)
    waits = asyncio.create_task(last(engine, "waits"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert [request.request_id.partition("-")[2] for request in client.added] == ["runs"]
    assert not pausing.done()
    client.hold.set()
    await pausing
    assert client.calls == ["pause"]
    assert (await stream.get()).finished
    assert (await waits).finished, "the core decides now who waits"
    with pytest.raises(ValidationError, match="mode must be one of abort, wait, keep"):
        await engine.pause_generation(mode="never")


async def test_outputs_one_by_one(tokenizer: Tokenizer) -> None:
    client = FakeCoreClient(lambda _: [5, 6, 7, 2])
    engine = make_engine(tokenizer, client)
    params = SamplingParams(max_tokens=40, output_kind=RequestOutputKind.DELTA)
    stream = await engine.add_request("r", "Hello", params)
    assert stream.get_nowait() is None
    tokens = [token async for output in stream for token in output.outputs[0].token_ids]
    assert tokens == [5, 6, 7, 2]
    assert stream.finished
    assert stream.get_nowait() is None
    with pytest.raises(StopAsyncIteration):
        await stream.get()
    stream.close()
    client.hold = asyncio.Event()
    other = await engine.add_request("other", "Hello", params)
    other.close()
    other.close()
    assert len(client.aborted) == 1
    assert engine.num_unfinished == 0


async def test_a_stream_raises_what_ended_its_request(tokenizer: Tokenizer) -> None:
    client = FakeCoreClient(lambda _: [5, 6, 7, 2])
    client.hold = asyncio.Event()
    engine = make_engine(tokenizer, client)
    stream = await engine.add_request("r", "Hello", FINAL)
    [state] = engine._outputs.find("r")
    engine._outputs.fail(state, RequestFailedError("broken"))
    for _ in range(2):
        with pytest.raises(RequestFailedError, match="broken"):
            stream.get_nowait()
    with pytest.raises(RequestFailedError, match="broken"):
        await stream.get()


async def test_facts(tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="octavo.frontend.log_stats")
    client = FakeCoreClient(lambda _: [5, 6, 2])
    engine = make_engine(
        tokenizer, client, stat_loggers=[LoggingStatLogger(interval=1e9)], max_num_queued_reqs=1, max_num_seqs=1
    )
    assert await engine.get_supported_tasks() == ("generate",)
    assert await engine.is_tracing_enabled() is False
    assert (engine.is_running, engine.is_stopped) == (True, False)
    await last(engine, "r")
    assert "Engine:" not in caplog.text
    await engine.do_log_stats()
    assert "finished 1" in caplog.text
    client.hold = asyncio.Event()
    engine.check_admission()
    for number in range(2):
        await engine.add_request(str(number), "Hello", FINAL)
    with pytest.raises(QueueFullError):
        engine.check_admission()
    await engine.reset_encoder_cache()
    client.kill()
    assert (engine.is_running, engine.is_stopped) == (False, True)
