"""The clock of a core that does not answer: what sets it, and what does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
from fake_core import FakeCoreClient, make_engine

from octavo.errors import EngineDeadError, OctavoError, QueueFullError
from octavo.frontend.admission import MAX_UNREAD
from octavo.frontend.async_llm import AsyncLLM
from octavo.frontend.core_watch import CoreWatch
from octavo.frontend.tokenizer import Tokenizer
from octavo.params import SamplingParams

STEP_TIMEOUT = 0.2
GENEROUS = 30.0


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GENEROUS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.001)


class Core:
    """Answers pings when it is told to.

    Attributes:
        pings: asked so far; `open` waits for its answer.
    """

    def __init__(self) -> None:
        self.pings = 0
        self.open: asyncio.Future[None] | None = None

    async def ping(self) -> None:
        self.pings += 1
        self.open = asyncio.get_running_loop().create_future()
        await self.open

    def answer(self, error: Exception | None = None) -> None:
        assert self.open is not None
        if error is None:
            self.open.set_result(None)
        else:
            self.open.set_exception(error)


@pytest.fixture
def core() -> Core:
    return Core()


@pytest.fixture
async def watch(core: Core, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CoreWatch]:
    monkeypatch.setenv("OCTAVO_STEP_TIMEOUT", str(STEP_TIMEOUT))
    watch = CoreWatch(core.ping)
    watch.start()
    yield watch
    watch.stop()
    watch.stop()


async def test_silence_grows_until_the_answer_and_one_ping_is_on_its_way(core: Core, watch: CoreWatch) -> None:
    for number in range(1, 4):
        await until(lambda: watch.silence > STEP_TIMEOUT)
        assert core.pings == number
        core.answer()
        await until(lambda: watch.silence < STEP_TIMEOUT)
        await until(lambda number=number: core.pings == number + 1)  # type: ignore[misc]


@pytest.mark.parametrize("error", [OctavoError("unknown method"), EngineDeadError(), ZeroDivisionError()])
async def test_an_error_does_not_end_the_watch(core: Core, watch: CoreWatch, error: Exception) -> None:
    await until(lambda: watch.silence > 0)
    core.answer(error)
    await until(lambda: core.pings == 2)
    await until(lambda: watch.silence > STEP_TIMEOUT)


async def test_time_in_which_this_process_stood_still_is_nobodys_silence(core: Core, watch: CoreWatch) -> None:
    await until(lambda: core.pings == 1)
    before = watch.silence
    time.sleep(5 * STEP_TIMEOUT)  # noqa: ASYNC251 - as after SIGSTOP, or under a load that leaves no turn
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert watch.silence - before <= 0.5 * STEP_TIMEOUT


async def test_a_stopped_watch_asks_no_more(core: Core, watch: CoreWatch) -> None:
    await until(lambda: watch.silence > 0)
    watch.stop()
    await until(lambda: watch.silence == 0)
    assert core.open is not None
    assert core.open.cancelled()
    await asyncio.sleep(STEP_TIMEOUT / 4)
    assert core.pings == 1


class Stopped(FakeCoreClient):
    """A core that does nothing and answers nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__(lambda _: [100] * 5)
        self.hold = asyncio.Event()

    async def call(self, method: str, *args: object, timeout: float | None = 10.0) -> object:  # noqa: ASYNC109
        assert self.hold is not None
        await self.hold.wait()
        return await super().call(method, *args)


@pytest.mark.parametrize("clients", ["none", "waiting", "that come and go"])
async def test_clients_make_no_difference(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, clients: str) -> None:
    """Neither that they wait, nor that they give up, nor that there are none any more."""
    monkeypatch.setenv("OCTAVO_STEP_TIMEOUT", str(STEP_TIMEOUT))
    core = Stopped()
    engine = make_engine(tokenizer, core)
    await engine.check_health()
    tasks = [asyncio.create_task(ask(engine, number)) for number in range(2 if clients != "none" else 0)]
    seen = []
    while engine.silence <= STEP_TIMEOUT:
        if clients == "that come and go":
            tasks[0].cancel()
            tasks = [*tasks[1:], asyncio.create_task(ask(engine, len(seen)))]
        seen.append(engine.silence)
        await asyncio.sleep(STEP_TIMEOUT / 50)
    assert seen == sorted(seen), "something set the clock back"
    if clients == "that come and go":
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert engine.num_unfinished == 0
        tasks = []
    assert core.hold is not None
    core.hold.set()
    await asyncio.gather(*tasks)
    await until(lambda: engine.silence == 0)
    engine.shutdown()


async def ask(engine: AsyncLLM, number: int) -> None:
    async for _ in engine.generate("Hello", SamplingParams(max_tokens=3), str(number)):
        pass


@pytest.mark.parametrize("limits", [{"max_num_queued_reqs": 10}, {"max_num_queued_tokens": 10**6}, {}])
async def test_what_lies_before_a_core_that_stands_still_is_bounded(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int]
) -> None:
    """Requests that have ended and their aborts are in nobody's count. A batch without limits is not a server's queue."""
    monkeypatch.setenv("OCTAVO_STEP_TIMEOUT", str(STEP_TIMEOUT))
    core = Stopped()
    engine = make_engine(tokenizer, core, **limits)
    await engine.check_health()
    core.backlog = MAX_UNREAD + 1
    assert not engine.queue_full, "it may be about to read it"
    await until(lambda: engine.silence > 0)
    assert engine.queue_full == bool(limits)
    if limits:
        with pytest.raises(QueueFullError, match="stands still"):
            await ask(engine, 1)
    core.backlog = MAX_UNREAD
    assert not engine.queue_full
    engine.shutdown()


async def test_a_full_queue_is_what_refuses(tokenizer: Tokenizer) -> None:
    core = Stopped()
    engine = make_engine(tokenizer, core, max_num_seqs=1, max_num_queued_reqs=2)
    tasks = []
    for number in range(3):
        assert not engine.queue_full
        tasks.append(asyncio.create_task(ask(engine, number)))
        await until(lambda number=number: engine.num_unfinished == number + 1)  # type: ignore[misc]
    assert engine.queue_full
    assert core.hold is not None
    core.hold.set()
    await asyncio.gather(*tasks)
    assert not engine.queue_full
    engine.shutdown()
