"""The server process: opens the port, starts the engine beside it, serves, drains, ends with an exit code."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
from typing import NoReturn

import uvloop
from aiohttp import web

from octavo.config import EngineArgs, foreign_envs
from octavo.core.waiting_core import WaitingCore
from octavo.frontend.async_llm import AsyncLLM
from octavo.frontend.heap import give_back_large_blocks
from octavo.frontend.metrics import PrometheusStats
from octavo.frontend.server.app import make_app
from octavo.frontend.server.connection import Runner
from octavo.frontend.server.listener import (
    BACKLOG,
    close_socket,
    open_socket,
    ssl_context,
    url_of,
    warn_if_open_to_all,
)
from octavo.frontend.server.logs import set_up_logging
from octavo.frontend.server.loop_clock import LoopClock
from octavo.frontend.server.options import ServerOptions
from octavo.frontend.server.pooling.io_plugins import IOPlugins
from octavo.frontend.server.start_display import StartDisplay, Started, make_display
from octavo.frontend.server.startup import EngineStarter, PhaseClock, StartCancelledError
from octavo.frontend.server.state import Phase, ServerState

logger = logging.getLogger(__name__)

EXIT_OK, EXIT_ENGINE_DIED, EXIT_INTERRUPTED = 0, 1, 128 + signal.SIGINT
DEATH_CHECK_INTERVAL = 0.1
ANSWER_TIME = 1.0
"""Seconds that requests get to be answered with an error after the engine's death, or an abort at the end of draining."""


def run_server(engine_args: EngineArgs, options: ServerOptions, core: WaitingCore, display: StartDisplay | None = None) -> int:
    """Serve until a signal or the engine's death ends it.

    Args:
        engine_args: what to serve and how.
        options: where and to whom.
        core: the engine's core process, started before this module was imported.
        display: how to tell of the start; None = as standard error suits.

    Returns:
        The exit code: 0 after SIGTERM, 130 after SIGINT (Ctrl-C), 1 when the engine died.

    Raises:
        ConfigError: an option cannot work, or the address is taken.
        EngineStartError: the engine could not start.
    """
    give_back_large_blocks()
    display = display or make_display()
    set_up_logging(display.handler)
    foreign_envs.report()
    options.check()
    engine_args.check()
    clock = PhaseClock()
    sock = open_socket(options)
    try:
        warn_if_open_to_all(options)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_Server(engine_args, options, core, sock, clock, display).run())
    finally:
        display.close()
        close_socket(options, sock)


class _Server:
    """One run of the server."""

    def __init__(
        self,
        engine_args: EngineArgs,
        options: ServerOptions,
        core: WaitingCore,
        sock: socket.socket,
        clock: PhaseClock,
        display: StartDisplay,
    ) -> None:
        self._options = options
        self._sock = sock
        self._clock = clock
        self._display = display
        self._model = engine_args.model
        self._metrics = PrometheusStats(prefix=options.metrics_prefix)
        self._state = ServerState(options, self._metrics)
        self._loop_clock = LoopClock(self._metrics)
        self._starter = EngineStarter(engine_args, core, [self._metrics], clock, display)
        self._state.progress = lambda: self._starter.progress
        self._engine: AsyncLLM | None = None
        self._stop = asyncio.Event()
        self._stopped_code = EXIT_OK

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        runner = await self._listen()
        try:
            return await self._serve()
        except StartCancelledError:
            return self._stopped_code
        finally:
            self._loop_clock.stop()
            await runner.cleanup()
            if self._engine is not None:
                await asyncio.to_thread(self._engine.shutdown)
            logger.info("stopped")

    async def _listen(self) -> web.AppRunner:
        """Answer probes from now on, and everything else with 503 until the engine is there."""
        runner = Runner(make_app(self._state), shutdown_timeout=ANSWER_TIME)
        await runner.setup()
        await web.SockSite(runner, self._sock, ssl_context=ssl_context(self._options), backlog=BACKLOG).start()
        logger.info("listening on %s, starting the engine", url_of(self._options, self._sock))
        self._display.begin(self._model)
        return runner

    async def _serve(self) -> int:
        engine = self._engine = await self._started_engine()
        self._metrics.set_engine(engine.config, engine.ready)
        if engine.io_processors.names:
            self._metrics.add(engine.io_processors.stats)
            self._state.plugins = IOPlugins(engine.io_processors)
        self._metrics.core_pid = lambda: engine.ready.pid  # another one after a restart
        await engine.check_health()
        self._state.started(engine)
        # What start-up made stays; the collector need not look at it again.
        gc.collect()
        gc.freeze()
        self._loop_clock.start()
        url, phases = url_of(self._options, self._sock), self._clock.phases
        self._display.end(Started(engine, url, sum(phases.values()), self._clock.table(), self._options))
        while not self._stop.is_set():
            if engine.errored:
                return await self._end_dead(engine)
            await _wait(self._stop, DEATH_CHECK_INTERVAL)
        return await self._drain(engine)

    async def _started_engine(self) -> AsyncLLM:
        """Raises StartCancelledError when the server is stopped first."""
        start = asyncio.ensure_future(self._starter.start())
        stop = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if start.done() and not (self._stop.is_set() and start.exception()):  # Ctrl-C ends a download's process, too
            return start.result()
        self._starter.cancel()
        await asyncio.wait({start}, timeout=ANSWER_TIME)
        if not start.done():
            self._leave()  # the interpreter would wait for the threads of a download
        start.cancel()
        raise StartCancelledError("stopped while starting")

    async def _end_dead(self, engine: AsyncLLM) -> int:
        logger.error("%s; the server ends", engine.dead_error)
        self._state.phase = Phase.DEAD
        await _wait(self._state.idle, ANSWER_TIME)
        return EXIT_ENGINE_DIED

    async def _drain(self, engine: AsyncLLM) -> int:
        """Let running requests finish, up to --shutdown-timeout."""
        state, timeout = self._state, self._options.shutdown_timeout
        logger.info("draining: %d requests may take up to %g s; a second signal ends at once", state.in_flight, timeout)
        deadline = asyncio.get_running_loop().time() + timeout
        while not state.idle.is_set():
            if engine.errored:
                return await self._end_dead(engine)
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                logger.warning("%d requests did not finish in %g s and are aborted", state.in_flight, timeout)
                await state.abort_active()
                await _wait(state.idle, ANSWER_TIME)
                break
            await _wait(state.idle, min(left, DEATH_CHECK_INTERVAL))
        return self._stopped_code

    def _on_signal(self, number: int) -> None:
        if self._stop.is_set():
            self._force_exit(number)
        logger.info("%s: stopping", signal.Signals(number).name)
        self._state.phase = Phase.DRAINING
        self._stopped_code = EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_OK
        self._stop.set()

    def _leave(self) -> NoReturn:
        """End though the start goes on in its thread; the core ends with this process."""
        logger.info("stopped")
        self._display.close()
        close_socket(self._options, self._sock)
        logging.shutdown()
        os._exit(self._stopped_code)

    def _force_exit(self, number: int) -> None:
        """End now, whatever runs; the core is killed."""
        logger.warning("%s again: ending at once", signal.Signals(number).name)
        close_socket(self._options, self._sock)
        if self._engine is not None:
            self._engine.shutdown(timeout=0.5)
        logging.shutdown()
        os._exit(128 + number)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until the event is set, or time is up."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
