"""What all handlers share: the engine, the server's phase, who is in flight, and the answers of the probes."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from octavo import envs
from octavo.errors import QueueFullError
from octavo.frontend.metrics import PrometheusStats
from octavo.frontend.server.errors import model_not_found, unavailable
from octavo.frontend.server.options import ServerOptions
from octavo.frontend.server.responses import fingerprint
from octavo.sources.short_names import full_name
from octavo.sources.text_prompts import read_text_prompts
from octavo.wire.messages import Progress

if TYPE_CHECKING:
    from octavo.frontend.async_llm import AsyncLLM
    from octavo.frontend.server.pooling.plugin import PluginPooling


_BODY_THREADS = 2


class Phase(enum.Enum):
    """The server's life, in order."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    DEAD = "dead"


class ServerState:
    """One server's state; lives on the event loop's thread.

    Attributes:
        in_flight: requests to the model that have not been answered to the end.
        idle: set while nothing is in flight.
        created: Unix seconds of the start.
        fingerprint: `system_fingerprint` of every answer.
        body_bytes: of requests that are being received.
        body_threads: where large bodies are unpacked and decoded.
        progress: what the starting engine reported last, None before its first report.
        text_prompts: what an embedding model wants before texts, by their purpose.
        plugins: answers /pooling requests with `data`, None where no plugin is installed.
    """

    def __init__(self, options: ServerOptions, metrics: PrometheusStats) -> None:
        self.options = options
        self.metrics = metrics
        self.keys = options.key_ring()
        self.phase = Phase.STARTING
        self.fingerprint = ""
        self.created = int(time.time())
        self.in_flight = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self.body_bytes = 0
        self.body_threads = ThreadPoolExecutor(_BODY_THREADS, thread_name_prefix="octavo-body")
        self.progress: Callable[[], Progress | None] = lambda: None
        self.plugins: PluginPooling | None = None
        self.text_prompts: dict[str, str] = {}
        self._engine: AsyncLLM | None = None
        self._active_ids: set[str] = set()

    def started(self, engine: AsyncLLM) -> None:
        """The engine is up: let requests in, unless the server was told to stop meanwhile.

        Raises:
            ConfigError: the model's folder says nonsense of its prompts.
        """
        self._engine = engine
        self.fingerprint = fingerprint(engine.config)
        model = engine.config.model
        if engine.supported_pooling_tasks:
            self.text_prompts = read_text_prompts(Path(model.path), model.hf_config)
        if self.phase is Phase.STARTING:
            self.phase = Phase.READY

    @property
    def engine(self) -> AsyncLLM:
        """The engine, for any request that needs it.

        Raises:
            ApiError: 503 while the server starts, or once the engine is dead.
        """
        if self._engine is None:
            raise unavailable("the engine is starting")
        if self._engine.errored:
            raise unavailable("the engine is dead")
        return self._engine

    @property
    def served_model_names(self) -> list[str]:
        """What requests may ask for; empty while the server starts."""
        return [] if self._engine is None else list(self._engine.config.model.served_model_names)

    def check_accepting(self) -> AsyncLLM:
        """The engine, for new work; asked before a body is read, too, so that nobody uploads in vain.

        Raises:
            ApiError: 503 while starting, draining or dead.
        """
        engine = self.engine
        if self.phase is not Phase.READY:
            raise unavailable("the server is shutting down")
        return engine

    @contextmanager
    def admit(self, *, queues: bool = True) -> Iterator[AsyncLLM]:
        """Count one request as in flight for the duration of the block.

        Args:
            queues: it will wait in the engine's queue, so it is refused now where that is full, before work is done for it.

        Raises:
            ApiError: 503 while starting, draining or dead.
            QueueFullError: --max-concurrent-requests are in flight, or the engine's queue is full.
        """
        engine = self.check_accepting()
        if queues:
            engine.check_room()
        limit = self.options.max_concurrent_requests
        if limit and self.in_flight >= limit:
            raise QueueFullError(f"{limit} requests are in flight already (--max-concurrent-requests)")
        self.in_flight += 1
        self.idle.clear()
        try:
            yield engine
        finally:
            self.in_flight -= 1
            if self.in_flight == 0:
                self.idle.set()

    @contextmanager
    def active(self, request_ids: list[str]) -> Iterator[None]:
        """Remember engine requests for the block, so that `abort_active` finds them."""
        self._active_ids.update(request_ids)
        try:
            yield
        finally:
            self._active_ids.difference_update(request_ids)

    async def abort_active(self, answer_ids: list[str] | None = None) -> None:
        """End what runs; the requests are answered with finish_reason "abort".

        Args:
            answer_ids: only the requests whose answers have these ids; None = all.
        """
        ids = list(self._active_ids)
        if answer_ids is not None:
            ids = [i for i in ids if any(i.startswith(answer + "-") for answer in answer_ids)]
        if self._engine is not None and ids:
            await self._engine.abort(ids)

    def check_model(self, model: str | None) -> str:
        """The name to answer with: the one asked for, or the first served one when none was.

        Raises:
            ApiError: 404, nothing of that name is served.
        """
        served = self.engine.config.model.served_model_names
        if not model:
            return served[0]
        if model not in served and full_name(model) not in served:
            raise model_not_found(model, served)
        return model

    def why_not_alive(self) -> str | None:
        """None while a restart would not help; else what is wrong."""
        if self.phase is Phase.DEAD or (self._engine is not None and self._engine.errored):
            return "the engine is dead"
        if self._engine is not None and self._engine.restarting:
            return None
        silence = 0.0 if self._engine is None else self._engine.silence
        if silence > envs.STEP_TIMEOUT:
            return f"the engine core has not answered, and no step has ended, for {silence:.0f} s"
        return None

    def why_not_ready(self) -> str | None:
        """None while new requests are welcome; else why not."""
        wrong = self.why_not_alive()
        if wrong or self._engine is None or self.phase is not Phase.READY:
            return wrong or self.phase.value
        if self._engine.restarting:
            return "the engine core is being started again"
        if self._engine.queue_full:
            return "the queue is full"
        limit = self.options.max_concurrent_requests
        if limit and self.in_flight >= limit:
            return "as many requests as allowed are in flight"
        return None


STATE: web.AppKey[ServerState] = web.AppKey("state", ServerState)
