"""What a frontend holds of a core: start it, talk to it, notice its death."""

from __future__ import annotations

import asyncio
import collections
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from octavo import envs
from octavo.config import EngineConfig
from octavo.core.client_wire import ClientWire
from octavo.core.core_process import CoreProcess, watch_stranger
from octavo.core.transport import Addresses
from octavo.core.waiting_core import CORE_COMMAND, WaitingCore
from octavo.errors import EngineDeadError, EngineStartError, OctavoError, ValidationError
from octavo.owner import Owner
from octavo.wire.messages import (
    WIRE_VERSION,
    AbortRequests,
    ControlCall,
    ControlReply,
    CoreMessage,
    CoreOutputs,
    EngineRequest,
    Failed,
    Hello,
    Progress,
    Ready,
    Vocabulary,
)

logger = logging.getLogger(__name__)

_POLL_MS = 50
_DISCONNECT_TIMEOUT = 1.0
_LAST_WORDS = 0.1
_MESSAGES_PER_TURN = 32
"""Seconds that a message of a process which has just ended may need to get here."""


class CoreLostError(EngineStartError):
    """The core process ended while it started and did not say why: another attempt may go better."""


class CoreClient:
    """One frontend's end of the wire to one core.

    `spawn`, `wait_ready` and `close` may be called from any thread, one at a time; everything else from the event loop's
    thread (any loop that has `add_reader`; a later loop may take over from one that is closed).

    Attributes:
        command: what `spawn` runs.
        ready: the core's facts, once it serves.
        failure: what the core said when it could not start, or go on.
    """

    command: Sequence[str] = CORE_COMMAND

    def __init__(self, config: EngineConfig) -> None:
        # fixed
        self.config = config
        self._owner = Owner()
        self.ready: Ready | None = None
        self._taught: Ready | None = None
        """Of the core that knows the vocabulary."""
        self.failure: str | None = None
        # the core
        self._process: CoreProcess | None = None
        self._addresses: Addresses | None = None
        self._connected: ClientWire | None = None
        self._death: str | None = None
        self._close_lock = threading.Lock()
        self._closed = False
        # what waits on the event loop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._received: collections.deque[CoreOutputs] = collections.deque()
        self._waiter: asyncio.Future[None] | None = None
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._next_call = 0
        self._bytes_taken = 0

    # ---- life -----------------------------------------------------------------------------------------------------

    def spawn(self, core: WaitingCore | None = None) -> None:
        """Start the core process, or have one that was started ahead of its configuration go on; returns at once.

        It ignores the terminal's Ctrl-C and ends when this process does.
        """
        self._process = CoreProcess(core or WaitingCore(self.command), self.config, self._mark_dead)
        self._connect(self._process.addresses)

    def attach(self, addresses: Addresses) -> None:
        """Join a core that another client spawned, instead of `spawn`; `close` then leaves it running."""
        self._connect(addresses)

    @property
    def addresses(self) -> Addresses:
        """Where the core listens, for `attach`. Raises: RuntimeError: there is no core yet."""
        if self._addresses is None:
            raise RuntimeError("the core has not been spawned")
        return self._addresses

    def wait_ready(self, on_progress: Callable[[Progress], None] | None = None, timeout: float | None = None) -> Ready:
        """Block until the core serves.

        Args:
            timeout: seconds; None = OCTAVO_START_TIMEOUT.

        Raises:
            EngineStartError: it does not come up; the message is the root cause.
        """
        limit = envs.START_TIMEOUT if timeout is None else timeout
        deadline = time.monotonic() + limit
        while self.ready is None:
            dead = self._death
            message = self._wire.wait(_POLL_MS if dead is None else 0)
            if isinstance(message, Ready):
                self._become_ready(message)
            elif isinstance(message, Failed):
                raise EngineStartError(message.message)
            elif isinstance(message, Progress) and on_progress is not None:
                on_progress(message)
            elif message is None and dead is not None:
                raise _lost(dead)
            if time.monotonic() > deadline:
                raise _not_ready(limit)
        return self.ready

    @property
    def death(self) -> str:
        """How the core came to be gone."""
        return self._death or "the engine core is gone"

    @property
    def owned(self) -> bool:
        """Whether the core is this process's own, so that another may be started in its place."""
        return self._process is not None

    @property
    def exit_code(self) -> int | None:
        """Of an owned core: as subprocess has it, None while it runs."""
        return None if self._process is None else self._process.exit_code

    def successor(self) -> CoreClient:
        """A client for a core that takes this one's place, not spawned yet.

        Its cache has the size of this one's, whatever memory there is now, so that every request which fitted fits.
        """
        client = CoreClient(self.config if self.ready is None else _pinned(self.config, self.ready))
        client.command = self.command
        return client

    @property
    def dead(self) -> bool:
        """Whether the core is gone (or this client is closed)."""
        return self._death is not None

    def close(self, timeout: float = 5.0) -> None:
        """Stop the core process and delete the sockets' directory. Idempotent; waiting calls raise EngineDeadError.

        In a forked child nothing happens: process, sockets and event loop are its parent's.
        """
        if self._owner.is_elsewhere:
            return
        with self._close_lock:
            if self._closed:
                return
            self._closed = True
            self._mark_dead("the engine core was shut down")
            if self._process is not None:
                self._process.stop(timeout)
            if self._connected is not None:
                self._disconnect(self._connected)

    # ---- on the event loop ------------------------------------------------------------------------------------------

    async def start_up(self, timeout: float) -> Ready:  # noqa: ASYNC109 - the caller's own deadline
        """`wait_ready` on the event loop.

        Raises:
            CoreLostError: the core process ended without a word.
            EngineStartError: it says that it cannot start, or is not ready in `timeout` seconds.
        """
        loop = self._attach_loop()
        deadline = loop.time() + timeout
        while self.ready is None:
            if self.dead:
                # What it said last may still be on its way.
                await asyncio.sleep(_LAST_WORDS)
                self._read_all()
                raise _lost(self._death) if self.failure is None else EngineStartError(self.failure)
            try:
                await asyncio.wait_for(self._news(loop), deadline - loop.time())
            except TimeoutError:
                raise _not_ready(timeout) from None
        return self.ready

    async def outputs(self) -> CoreOutputs:
        """The next message with updates; one task at a time awaits it.

        Raises:
            EngineDeadError: the core is gone, and all it sent has been returned.
        """
        loop = self._attach_loop()
        while not self._received:
            self._check_alive()
            await self._news(loop)
        return self._received.popleft()

    @property
    def has_outputs(self) -> bool:
        """Whether `outputs` would return at once."""
        return bool(self._received)

    def add(self, request: EngineRequest, vocabulary: Vocabulary | None = None) -> None:
        """Send a request, and before the first one with a grammar what tokens are. Raises: EngineDeadError."""
        self._check_alive()
        if request.sampling.grammar is not None and vocabulary is not None and self._taught is not self.ready:
            self._wire.send(vocabulary)
            self._taught = self.ready
        self._wire.send(request)

    def abort(self, request_ids: list[str]) -> None:
        """Ask the core to forget these requests; no matter if it does not know them, or is gone."""
        if request_ids and not self.dead and not self._owner.is_elsewhere:
            self._wire.send(AbortRequests(request_ids))

    @property
    def backlog(self) -> int:
        """Bytes sent since the last call that the core has answered, at most so many of which it has not taken in."""
        return 0 if self._connected is None else self._connected.bytes_sent - self._bytes_taken

    async def call(self, method: str, *args: Any, timeout: float | None = 10.0) -> Any:  # noqa: ASYNC109 - as wait_for has it
        """Have the core do something between two steps; see `engine_core.CONTROL_METHODS`.

        Args:
            timeout: seconds to wait for the answer; None = however long the step takes.

        Raises:
            EngineDeadError: the core is gone, or goes meanwhile.
            TimeoutError: no answer in time.
            ValidationError: the core refused.
            OctavoError: the core failed at it.
        """
        loop = self._attach_loop()
        self._check_alive()
        self._next_call += 1
        call_id = self._next_call
        self._calls[call_id] = loop.create_future()
        try:
            self._wire.send(ControlCall(call_id, method, list(args)))
            sent = self._wire.bytes_sent
            value = await asyncio.wait_for(self._calls[call_id], timeout)
            self._bytes_taken = max(self._bytes_taken, sent)
            return value
        finally:
            del self._calls[call_id]

    def _attach_loop(self) -> asyncio.AbstractEventLoop:
        """Have the running loop read the socket, if it does not yet."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop and not self.dead:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._wire.descriptor)
            self._loop = loop
            loop.add_reader(self._wire.descriptor, self._read_all)
            self._read_all()
        return loop

    async def _news(self, loop: asyncio.AbstractEventLoop) -> None:
        """Return when something has come, or the core is gone."""
        self._waiter = loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _read_all(self) -> None:
        """Take every message there is, for ZeroMQ's descriptor tells of the first one only; but not all in one turn of the
        loop, unless they are a dead core's last.
        """
        number = 0
        while (message := self._wire.receive()) is not None:
            self._dispatch(message)
            number += 1
            if number >= _MESSAGES_PER_TURN and self._death is None and self._loop is not None:
                self._loop.call_soon(self._read_all)
                return
        if self._death is not None:
            self._wake_all()

    def _dispatch(self, message: CoreMessage) -> None:
        if isinstance(message, CoreOutputs):
            self._received.append(message)
            self._wake()
        elif isinstance(message, ControlReply):
            self._resolve_call(message)
        elif isinstance(message, Failed):
            self.failure = message.message
            self._mark_dead(f"the engine core failed: {message.message}")
        elif isinstance(message, Ready):
            self.ready = message
            self._wake()

    def _resolve_call(self, reply: ControlReply) -> None:
        future = self._calls.get(reply.call_id)
        if future is None or future.done():
            return
        if reply.error is not None:
            future.set_exception((ValidationError if reply.refused else OctavoError)(reply.error))
        else:
            future.set_result(reply.value)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _wake_all(self) -> None:
        """The core is gone: everyone who waits learns it."""
        self._wake()
        for future in self._calls.values():
            if not future.done():
                future.set_exception(EngineDeadError(self._death or "the engine core is gone"))

    # ---- connection and death ---------------------------------------------------------------------------------------

    @property
    def _wire(self) -> ClientWire:
        if self._connected is None:
            raise RuntimeError("the core has not been spawned")
        return self._connected

    def _connect(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._connected = ClientWire(addresses)
        self._connected.send(Hello(WIRE_VERSION))

    def _disconnect(self, wire: ClientWire) -> None:
        """Close the sockets where nobody else uses them: on their loop while it runs, else here."""
        loop = self._loop
        if loop is None or loop.is_closed():
            wire.close()
        elif not loop.is_running() or _running_loop() is loop:
            loop.remove_reader(wire.descriptor)
            wire.close()
        else:
            done = threading.Event()
            loop.call_soon_threadsafe(self._disconnect_on_loop, loop, wire, done)
            if not done.wait(_DISCONNECT_TIMEOUT):
                logger.warning("the event loop is too busy to close the engine core's sockets")

    @staticmethod
    def _disconnect_on_loop(loop: asyncio.AbstractEventLoop, wire: ClientWire, done: threading.Event) -> None:
        loop.remove_reader(wire.descriptor)
        wire.close()
        done.set()

    def _become_ready(self, ready: Ready) -> None:
        self.ready = ready
        if self._process is None:
            watch_stranger(ready.pid, self._mark_dead, lambda: self._closed)

    def _check_alive(self) -> None:
        self._owner.check()
        if self._death is not None:
            raise EngineDeadError(self._death)

    def _mark_dead(self, why: str) -> None:
        """From any thread; the first reason stays."""
        if self._death is None:
            self._death = why
        loop = self._loop
        if loop is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(self._read_all)
            except RuntimeError:
                logger.debug("the event loop closed before it learned that %s", why)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs on this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _pinned(config: EngineConfig, ready: Ready) -> EngineConfig:
    """`config` with what the first core made of it."""
    replace = msgspec.structs.replace
    return replace(
        config,
        cache=replace(config.cache, num_blocks=ready.num_blocks),
        model=replace(config.model, max_model_len=ready.max_model_len, fit_max_model_len=False),
    )


def _lost(death: str | None) -> CoreLostError:
    return CoreLostError(f"{death} before it was ready; its log says why")


def _not_ready(seconds: float) -> EngineStartError:
    return EngineStartError(f"the engine core was not ready within {seconds:g} s (OCTAVO_START_TIMEOUT)")
