"""The core process: `python -m octavo.core.process`, with a `Bootstrap` on stdin.

It imports torch while it waits for that, and binds its sockets without waiting for torch, so that clients see how the start
gets on. It ends when its parent does: the end of stdin is the sign, whatever the parent died of.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from octavo import envs
from octavo.config import EngineConfig
from octavo.core.bootstrap import Bootstrap, read_bootstrap
from octavo.core.core_io import CoreIO, Stop
from octavo.core.transport import remove_socket_directory
from octavo.errors import OctavoError
from octavo.log_format import make_formatter
from octavo.wire.messages import WIRE_VERSION, Failed, Progress, Ready

if TYPE_CHECKING:
    from octavo.core.engine_core import EngineCore
    from octavo.executor.base import Executor

logger = logging.getLogger(__name__)

STOP_TIMEOUT = 0.5
"""Seconds that a step under way may delay the end of the process."""
HELLO_TIMEOUT = 5.0
"""Seconds that a core which cannot start waits for someone to tell why."""
FAILED_TIMEOUT = 3.0
"""Seconds that a core which has failed may take to shut its executor down."""
_PARENT_CHECK_INTERVAL = 1.0
_PROGRESS_INTERVAL = 0.05
_PR_SET_NAME = 15


class StartUp:
    """Times the phases of the start and announces them."""

    def __init__(self, io: CoreIO, began_at: float) -> None:
        self._io = io
        self._began_at = began_at
        self._phase = ""
        self._phase_began = began_at
        self._last_told = 0.0
        self.phases: dict[str, float] = {}
        """Seconds by finished phase, in order."""

    def progress(self, phase: str, fraction: float) -> None:
        """A phase is at `fraction`; the first word of a phase ends the one before."""
        now = time.monotonic()
        if phase != self._phase:
            self.end_phase(now)
            self._phase = phase
        elif fraction < 1.0 and now - self._last_told < _PROGRESS_INTERVAL:
            return
        self._last_told = now
        self._io.announce(Progress(phase, fraction, now - self._began_at))

    def end_phase(self, now: float) -> None:
        if self._phase:
            self.phases[self._phase] = self.phases.get(self._phase, 0.0) + now - self._phase_began
            self._phase_began = now


class DeathWatch:
    """Ends this process soon after its parent's end or a SIGTERM, even while the main thread is in a kernel.

    SIGTERM is blocked in every thread and waited for in one, because a signal handler would have to wait for the kernel.
    """

    def __init__(self, io: CoreIO) -> None:
        self._io = io
        self._parent = os.getppid()

    def start(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        for target in (self._wait_for_parent, self._wait_for_sigterm):
            threading.Thread(target=target, name="octavo-core-watch", daemon=True).start()

    def limit(self, seconds: float, exit_code: int) -> None:
        """End the process in `seconds` unless it has ended by itself."""
        threading.Thread(target=self._force_end, args=(seconds, exit_code), name="octavo-core-limit", daemon=True).start()

    def _wait_for_parent(self) -> None:
        """End of stdin is noticed at once; a parent whose pipe lives on in a forked child, within a second."""
        descriptor = sys.stdin.fileno()
        while os.getppid() == self._parent:
            readable, _, _ = select.select([descriptor], [], [], _PARENT_CHECK_INTERVAL)
            if readable and not os.read(descriptor, 4096):
                break
        self._end("the parent process is gone")

    def _wait_for_sigterm(self) -> None:
        signal.sigwait({signal.SIGTERM})
        self._end("SIGTERM")

    def _end(self, why: str) -> None:
        logger.debug("ending: %s", why)
        self._io.inbox.put((b"", Stop()))
        self._force_end(STOP_TIMEOUT, 0)

    def _force_end(self, seconds: float, exit_code: int) -> None:
        time.sleep(seconds)
        remove_socket_directory(self._io.addresses)
        sys.stderr.flush()
        os._exit(exit_code)


def main(make_executor: Callable[[EngineConfig], Executor] | None = None) -> int:
    """Run a core until it is told to stop; returns the exit code.

    Args:
        make_executor: instead of the one that the configuration names (tests).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _set_up_logging()
    _set_process_name("octavo-core")
    make_executor = make_executor or _import_executor()
    bootstrap = _await_bootstrap()
    io = CoreIO(bootstrap.addresses)
    watch = DeathWatch(io)
    watch.start()
    io.start()
    try:
        exit_code = _serve(bootstrap, io, make_executor, watch)
    finally:
        io.close()
        remove_socket_directory(bootstrap.addresses)
    return exit_code


def _serve(bootstrap: Bootstrap, io: CoreIO, make_executor: Callable[[EngineConfig], Executor], watch: DeathWatch) -> int:
    start_up = StartUp(io, bootstrap.sent_at)
    start_up.progress("process", 1.0)
    executor: Executor | None = None
    try:
        start_up.progress("imports", 0.0)
        executor = make_executor(bootstrap.config)
        executor.start(start_up.progress)
        core = _make_core(bootstrap.config, executor, io)
        start_up.end_phase(time.monotonic())
        io.announce(_ready(bootstrap.config, core, executor, start_up))
        # What start-up made stays (the worker has collected what did not); a collection need not look at all of torch again.
        gc.freeze()
        core.run()
        return 0
    except Exception as error:
        message = str(error) if isinstance(error, OctavoError) else f"{type(error).__name__}: {error}"
        logger.error("the engine core ends: %s", message, exc_info=None if isinstance(error, OctavoError) else error)
        io.announce(Failed(message))
        io.wait_for_client(HELLO_TIMEOUT)
        watch.limit(FAILED_TIMEOUT, 1)
        return 1
    finally:
        if executor is not None:
            executor.shutdown()


def _import_executor() -> Callable[[EngineConfig], Executor]:
    """Start to import what the executor needs, on a thread, for the configuration is yet to come; what makes the executor."""

    def import_it() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # as in all threads: see DeathWatch
        from octavo.executor.choice import import_ahead

        import_ahead()

    pool = ThreadPoolExecutor(1, thread_name_prefix="octavo-import")
    imported = pool.submit(import_it)
    pool.shutdown(wait=False)

    def make(config: EngineConfig) -> Executor:
        imported.result()
        from octavo.executor.choice import make_executor

        return make_executor(config)

    return make


def _await_bootstrap() -> Bootstrap:
    """What to serve; the process ends here when nobody says."""
    try:
        return read_bootstrap(sys.stdin.buffer)
    except EOFError:
        os._exit(0)  # not waiting for the imports


def _make_core(config: EngineConfig, executor: Executor, io: CoreIO) -> EngineCore:
    from octavo.core.engine_core import EngineCore

    return EngineCore(config, executor, io.inbox, io.send)


def _ready(config: EngineConfig, core: EngineCore, executor: Executor, start_up: StartUp) -> Ready:
    kv = core.scheduler.kv
    capacity = kv.demand.capacity(kv.num_blocks, core.max_model_len)
    return Ready(
        WIRE_VERSION, os.getpid(), kv.num_blocks, config.cache.block_size, core.max_model_len, start_up.phases,
        executor.device_name, capacity, list(executor.row_inputs),
    )  # fmt: skip


def _set_up_logging() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(make_formatter("core"))
    logging.basicConfig(level=envs.LOG_LEVEL.upper(), handlers=[handler])


def _set_process_name(name: str) -> None:
    """Show `name` in ps and top, where the C library allows it."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
