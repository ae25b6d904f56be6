"""The engine's start beside the open port: a thread that can be told to give up, and a table of where the time went."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from octavo.config import EngineArgs
from octavo.core.waiting_core import WaitingCore
from octavo.errors import OctavoError
from octavo.frontend.stats import StatLogger
from octavo.wire.messages import Progress, Ready

if TYPE_CHECKING:
    from octavo.frontend.async_llm import AsyncLLM
    from octavo.frontend.server.start_display import StartDisplay

logger = logging.getLogger(__name__)


class StartCancelledError(OctavoError):
    """The server was told to stop before its engine was ready."""


class PhaseClock:
    """Splits the time since the process began into named phases that add up."""

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}
        self._last = 0.0

    def mark(self, name: str) -> None:
        """The phase `name` ends now."""
        now = process_age()
        self.phases[name] = now - self._last
        self._last = now

    def split(self, name: str, parts: dict[str, float]) -> None:
        """Show the parts of a phase instead; what they leave of it keeps its name."""
        whole = self.phases.pop(name)
        self.phases.update(parts)
        self.phases[name] = whole - sum(parts.values())

    def table(self) -> str:
        """Lines "phase seconds"; the last is the sum."""
        rows = [*self.phases.items(), ("total", sum(self.phases.values()))]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"  {name:<{width}}  {seconds:7.2f} s" for name, seconds in rows)


_imported_at = time.monotonic()


def process_age() -> float:
    """Seconds since this process was started; since this module was imported where the system does not say."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return time.monotonic() - _imported_at


class EngineStarter:
    """Starts the engine in a thread, for its start blocks.

    A daemon thread: a start that hangs does not keep the process alive, and the core ends with the process.

    Attributes:
        progress: the core's last report, None before its first.
    """

    def __init__(
        self,
        engine_args: EngineArgs,
        core: WaitingCore,
        stat_loggers: Sequence[StatLogger],
        clock: PhaseClock,
        display: StartDisplay,
    ) -> None:
        self._engine_args = engine_args
        self._core = core
        self._stat_loggers = stat_loggers
        self._clock = clock
        self._display = display
        self._cancelled = threading.Event()
        self._last_progress = ("", -1)
        self.progress: Progress | None = None

    async def start(self) -> AsyncLLM:
        """The engine, ready to serve.

        Raises:
            ConfigError, EngineStartError: it cannot start.
            StartCancelledError: `cancel` was called.
        """
        loop = asyncio.get_running_loop()
        result: asyncio.Future[AsyncLLM] = loop.create_future()
        threading.Thread(target=self._run, args=(loop, result), name="octavo-start", daemon=True).start()
        engine = await result
        self._clock.mark("tokenizer, rest")
        self._clock.split("tokenizer, rest", _core_phases(engine.ready))
        return engine

    def cancel(self) -> None:
        """Give up soon; the core is stopped."""
        self._cancelled.set()

    def _run(self, loop: asyncio.AbstractEventLoop, result: asyncio.Future[AsyncLLM]) -> None:
        try:
            engine = self._start()
        except BaseException as error:  # noqa: BLE001  (raised again where `start` is awaited)
            loop.call_soon_threadsafe(_set_exception, result, error)
        else:
            loop.call_soon_threadsafe(_set_result, result, engine)

    def _start(self) -> AsyncLLM:
        from octavo.frontend.async_llm import AsyncLLM

        self._clock.mark("python, imports")
        config = self._engine_args.create_engine_config()
        self._clock.mark("configuration")
        self._check_cancelled()
        engine = AsyncLLM.from_config(config, stat_loggers=self._stat_loggers, on_progress=self._on_progress, core=self._core)
        if self._cancelled.is_set():
            engine.shutdown()
            raise StartCancelledError("stopped while starting")
        return engine

    def _on_progress(self, progress: Progress) -> None:
        self._check_cancelled()
        self._display.progress(progress)
        self.progress = progress
        tenth = int(progress.fraction * 10)
        if (progress.phase, tenth) != self._last_progress:
            self._last_progress = (progress.phase, tenth)
            logger.info("starting: %s %d%% (%.1f s)", progress.phase, 10 * tenth, progress.elapsed)

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise StartCancelledError("stopped while starting")


def _core_phases(ready: Ready) -> dict[str, float]:
    return {f"core: {name}": seconds for name, seconds in ready.phases.items()}


def _set_result(future: asyncio.Future[AsyncLLM], engine: AsyncLLM) -> None:
    if future.cancelled():
        engine.shutdown()
    else:
        future.set_result(engine)


def _set_exception(future: asyncio.Future[AsyncLLM], error: BaseException) -> None:
    if not future.cancelled():
        future.set_exception(error)
