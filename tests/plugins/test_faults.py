"""Whatever a plugin does wrong is that request's clear error; the plugin's other requests are answered as if nothing had been."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from engines import FakeEngine, ask, body, processors
from servers import HANG_GUARD

from octavo.errors import OctavoError, PluginError, PluginUnavailableError, RequestTimeoutError, ValidationError
from octavo.frontend.io_processing.pool import MOST_ABANDONED
from octavo.plugins.messages import IOProcessorRequest

pytestmark = pytest.mark.usefixtures("packages")

both = pytest.mark.parametrize("workers", [0, 1], ids=["thread", "process"])

BEFORE = ("parse_request", "pre_process", "params")
EVERYWHERE = (*BEFORE, "post_process")


async def among_others(made: Any, data: dict[str, Any], engine: Any = None, others: int = 6) -> list[Any]:
    """The request's outcome, and then those of well-behaved ones before and after it."""
    engine = engine or FakeEngine()
    good = [{"prompts": ["a" * (1 + i), "b"]} for i in range(others)]
    requests = [*good[: others // 2], data, *good[others // 2 :]]
    outcomes = await asyncio.gather(
        *(ask(made, one, engine, f"pooling-{i}") for i, one in enumerate(requests)), return_exceptions=True
    )
    return [outcomes.pop(others // 2), *outcomes]


def check_others(outcomes: list[Any]) -> None:
    for one in outcomes:
        if isinstance(one, BaseException):
            raise one
    assert [body(one)["data"]["count"] for one in outcomes] == [2] * len(outcomes)


@both
def test_what_a_method_raises(workers: int) -> None:
    async def all_of_them(made: Any) -> None:
        for method in EVERYWHERE:
            error, *others = await among_others(made, {"in": method, "do": "raise"}, others=2)
            assert isinstance(error, PluginError)
            assert (error.plugin, error.method) == ("faulty", "parse" if method == "parse_request" else method)
            assert "RuntimeError: a fault that was asked for" in str(error)
            check_others(others)
        for method in BEFORE:
            error, *others = await among_others(made, {"in": method, "do": "refuse"}, others=2)
            assert isinstance(error, ValidationError)
            assert (str(error), error.parameter) == ("the data are refused", "data")
            check_others(others)
        error, *_ = await among_others(made, {"in": "post_process", "do": "refuse"}, others=0)
        assert isinstance(error, PluginError), "after the model, no data are to blame"

    with processors("faulty", workers=workers) as made:
        asyncio.run(all_of_them(made))


@both
def test_what_a_method_must_not_return(workers: int) -> None:
    wrong = {
        "pre_process": "pre_process must return a prompt or a list of prompts, got int",
        "params": "parameters must be PoolingParams or SamplingParams, got int",
        "post_process": "output_to_response must return an IOProcessorResponse, got int",
    }

    async def all_of_them(made: Any) -> None:
        for method, words in wrong.items():
            error, *others = await among_others(made, {"in": method, "do": "wrong type"}, others=2)
            assert isinstance(error, PluginError)
            assert words in str(error)
            check_others(others)
        for prompts, words in (([], "made no prompt"), (["a", 5], "a prompt that is a int"), (b"abc", "got bytes")):
            error, *_ = await among_others(made, {"prompts": prompts}, others=0)
            assert isinstance(error, PluginError)
            assert words in str(error)
        error, *_ = await among_others(made, {"in": "post_process", "do": "unserializable"}, others=0)
        assert isinstance(error, PluginError)
        assert "object has no JSON form" in str(error)

    with processors("faulty", workers=workers) as made:
        asyncio.run(all_of_them(made))


@both
def test_a_thousand_prompts(workers: int) -> None:
    engine = FakeEngine()
    with processors("faulty", workers=workers, max_prompts=512) as made:
        error, *others = asyncio.run(among_others(made, {"in": "pre_process", "do": "many"}, engine))
    assert isinstance(error, ValidationError)
    assert "made 1000 prompts of this request, and 512 are allowed (--io-processor-max-prompts)" in str(error)
    check_others(others)
    assert len(engine.asked) == 2 * len(others)


@both
@pytest.mark.parametrize("method", ["pre_process", "post_process", "pre_process_async"])
def test_a_call_that_hangs(workers: int, method: str) -> None:
    """It is told after its time; who waited behind it, or had been before it, is answered by a successor."""
    with processors("faulty", workers=workers, timeout=0.5) as made:
        error, *others = asyncio.run(among_others(made, {"in": method, "do": "hang"}))
        replaced = [number for _, number in made.stats.replaced()]
    assert isinstance(error, RequestTimeoutError)
    assert "'faulty' took more than 0.5 s (--io-processor-timeout)" in str(error)
    check_others(others)
    assert replaced == [0 if method.endswith("async") else 1], "a call that can be cancelled costs no worker"


def test_waiting_calls_do_not_hold_each_other_up() -> None:
    """Asynchronous methods that wait do so at one time: 20 waits of 0.4 s fit into one limit of 2 s."""

    async def many(made: Any) -> list[Any]:
        return await asyncio.gather(*(ask(made, {"wait": 0.4}, request_id=f"pooling-{i}") for i in range(20)))

    with processors("faulty", timeout=2.0) as made:
        check_others(asyncio.run(asyncio.wait_for(many(made), 4.0)))


def test_a_client_that_leaves_a_hanging_call_does_not_leave_it_to_others() -> None:
    async def leave(made: Any) -> Any:
        hanging = asyncio.create_task(ask(made, {"in": "pre_process", "do": "hang"}))
        await asyncio.sleep(0.2)
        hanging.cancel()
        await asyncio.wait([hanging])
        return await ask(made, {}, request_id="pooling-2")

    with processors("faulty", timeout=0.5) as made:
        check_others([asyncio.run(leave(made))])


@both
def test_a_request_that_ends_otherwise_is_forgotten(workers: int) -> None:
    async def leave(made: Any) -> Any:
        class Stuck(FakeEngine):
            async def _work(self, request_id: str, prompt: Any, params: Any) -> None:
                await super()._work(request_id, prompt, params)
                stuck.set()
                await asyncio.sleep(1000)

        stuck, engine = asyncio.Event(), Stuck()
        leaving = asyncio.create_task(ask(made, {}, engine, "pooling-2"))
        await stuck.wait()
        leaving.cancel()
        await asyncio.wait([leaving])
        await among_others(made, {"in": "params", "do": "raise"}, others=0)
        return await ask(made, {}, request_id="pooling-3")

    with processors("faulty", workers=workers) as made:
        assert body(asyncio.run(leave(made)))["data"]["known"] == 0


def test_threads_that_hang_are_bounded() -> None:
    async def hang(made: Any) -> list[Any]:
        outcomes = []
        for i in range(MOST_ABANDONED + 2):
            outcomes += await asyncio.gather(
                ask(made, {"in": "pre_process", "do": "hang"}, None, f"pooling-{i}"), return_exceptions=True
            )
        return outcomes

    with processors("faulty", timeout=0.1) as made:
        outcomes = asyncio.run(hang(made))
    assert [type(one) for one in outcomes] == [*[RequestTimeoutError] * (MOST_ABANDONED + 1), PluginUnavailableError]
    assert "--io-processor-workers" in str(outcomes[-1])


def test_a_process_that_dies_is_replaced() -> None:
    with processors("faulty", workers=1) as made:
        error, *others = asyncio.run(among_others(made, {"in": "pre_process", "do": "die"}))
        assert isinstance(error, PluginError)
        assert "the process of the IO Processor plugin 'faulty' died (exit code 3)" in str(error)
        check_others(others)


def test_a_process_that_needs_too_much_memory_is_replaced() -> None:
    with processors("faulty", workers=1, memory_bytes=1 << 30) as made:
        error, *others = asyncio.run(among_others(made, {"in": "pre_process", "do": "memory"}))
    assert isinstance(error, PluginError)
    assert "needs more memory than the 1 GiB (--io-processor-memory) it may have" in str(error)
    check_others(others)


def test_an_exit_in_a_thread_is_an_error() -> None:
    with processors("faulty") as made:
        error, *others = asyncio.run(among_others(made, {"in": "pre_process", "do": "exit"}))
    assert isinstance(error, PluginError)
    assert "SystemExit" in str(error)
    check_others(others)


def test_processes_share_the_work_and_end_with_the_engine() -> None:
    async def pids(made: Any) -> set[int]:
        answers = await asyncio.gather(*(ask(made, {"wait": 0.2}, request_id=f"pooling-{i}") for i in range(8)))
        return {body(answer)["data"]["pid"] for answer in answers}

    with processors("faulty", workers=2) as made:
        used = asyncio.run(pids(made))
    assert len(used) == 2
    assert os.getpid() not in used
    for pid in used:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_processes_end_with_a_frontend_that_is_killed() -> None:
    code = """
import time
from engines import processors
with processors("faulty", workers=1) as made:
    print(made._pools["faulty"]._hosts[0].pid, flush=True)
    time.sleep(100)
"""
    here = str(Path(__file__).parent)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ["PYTHONPATH"]])}
    frontend = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)
    assert frontend.stdout is not None
    pid = int(frontend.stdout.readline())
    os.kill(pid, 0)
    frontend.kill()
    frontend.wait()
    deadline = time.monotonic() + HANG_GUARD
    while time.monotonic() < deadline and is_running(pid):
        time.sleep(0.05)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    """A zombie, which nobody may be there to take note of, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_nothing_of_the_plugin_runs_on_the_event_loop() -> None:
    threads: set[int] = set()

    class Engine(FakeEngine):
        async def encode(self, *args: Any, **kwargs: Any) -> Any:
            threads.add(threading.get_ident())
            async for output in super().encode(*args, **kwargs):
                yield output

    async def watch(made: Any) -> int:
        turns = 0
        request = asyncio.create_task(ask(made, {"in": "pre_process", "do": "hang"}, Engine()))
        while not request.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert isinstance(request.exception(), OctavoError)
        return turns

    with processors("faulty", timeout=0.5) as made:
        assert asyncio.run(watch(made)) > 20


def test_synchronous_methods_may_run_a_loop_of_their_own() -> None:
    """As some of vLLM's do, which call their asynchronous twin."""
    with processors("faulty") as made:
        request = IOProcessorRequest(data={"in": "pre_process", "do": "run a loop"})
        assert asyncio.run(made.run(FakeEngine(), request, "1", online=False)).output["count"] == 3


def test_arrays_by_modality_reach_the_model_by_name() -> None:
    engine = FakeEngine()
    with processors("faulty") as made:
        asyncio.run(ask(made, {"in": "pre_process", "do": "nest"}, engine))
    ((_, prompt, _),) = engine.asked
    assert prompt == {"prompt_token_ids": [1], "multi_modal_data": {"a": 1, "b": 2}}


def test_offline_arrays_go_to_a_process_and_back() -> None:
    import numpy as np
    import torch

    tensor = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
    prompts = [{"prompt_token_ids": [1], "multi_modal_data": {"a": np.arange(4, dtype=np.float16), "b": tensor}}]
    engine = FakeEngine()

    with processors("faulty", workers=1) as made:
        asyncio.run(made.run(engine, IOProcessorRequest(data={"prompts": prompts}), "1", online=False))
    ((_, prompt, _),) = engine.asked
    made_again = prompt["multi_modal_data"]
    assert made_again["a"].dtype == np.float16
    assert made_again["a"].tolist() == [0, 1, 2, 3]
    assert torch.equal(made_again["b"], tensor)
