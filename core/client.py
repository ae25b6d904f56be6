"""What a frontend holds of a core: start it, talk to it, notice its death."""

from __future__ import annotations

import asyncio
import collections
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from octavo import envs
from octavo.config import EngineConfig
from octavo.core.bootstrap import Bootstrap, write_bootstrap
from octavo.core.messages import (
    WIRE_VERSION,
    AbortRequests,
    ClientMessage,
    ControlCall,
    ControlReply,
    CoreMessage,
    CoreOutputs,
    EngineRequest,
    Failed,
    Hello,
    Progress,
    Ready,
)
from octavo.core.transport import (
    Addresses,
    MessageEncoder,
    WireError,
    core_decoder,
    make_socket,
    make_socket_directory,
    receive,
    remove_socket_directory,
)
from octavo.errors import EngineDeadError, EngineStartError, OctavoError

logger = logging.getLogger(__name__)

_POLL_MS = 50


class CoreClient:
    """One frontend's end of the wire to one core.

    `spawn`, `wait_ready` and `close` may be called from any thread, one at a time; everything else from the event loop's
    thread (any loop that has `add_reader`; a later loop may take over from one that is closed).

    Attributes:
        command: what `spawn` runs.
        ready: the core's facts, once it serves.
    """

    command: Sequence[str] = (sys.executable, "-P", "-m", "octavo.core.process")

    def __init__(self, config: EngineConfig) -> None:
        # fixed
        self.config = config
        self.ready: Ready | None = None
        self._identity = uuid.uuid4().bytes
        # the core process
        self._addresses: Addresses | None = None
        self._owns_core = False
        self._process: subprocess.Popen[bytes] | None = None
        self._death: str | None = None
        self._close_lock = threading.Lock()
        self._closed = False
        # the wire
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._encoder = MessageEncoder()
        self._decoder = core_decoder()
        # what waits on the event loop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._received: collections.deque[CoreOutputs] = collections.deque()
        self._waiter: asyncio.Future[None] | None = None
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._next_call = 0

    # ---- life -----------------------------------------------------------------------------------------------------

    def spawn(self) -> None:
        """Start the core process; returns at once. It ignores the terminal's Ctrl-C and ends when this process does."""
        _, addresses = make_socket_directory()
        self._owns_core = True
        self._addresses = addresses
        self._process = subprocess.Popen(self.command, stdin=subprocess.PIPE, start_new_session=True)
        self._watch(self._wait_for_exit)
        bootstrap = Bootstrap(self.config, addresses, time.monotonic())
        try:
            write_bootstrap(self._process.stdin, bootstrap)  # type: ignore[arg-type]
        except BrokenPipeError:
            logger.debug("the core process ended before it read its configuration")
        self._connect(addresses)

    def attach(self, addresses: Addresses) -> None:
        """Join a core that another client spawned, instead of `spawn`; `close` then leaves it running."""
        self._addresses = addresses
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
            message = self._receive_blocking(_POLL_MS if dead is None else 0)
            if isinstance(message, Ready):
                self._become_ready(message)
            elif isinstance(message, Failed):
                raise EngineStartError(message.message)
            elif isinstance(message, Progress) and on_progress is not None:
                on_progress(message)
            elif message is None and dead is not None:
                raise EngineStartError(f"{dead} before it was ready; its log says why")
            if time.monotonic() > deadline:
                raise EngineStartError(f"the engine core was not ready within {limit:g} s (OCTAVO_START_TIMEOUT)")
        return self.ready

    @property
    def dead(self) -> bool:
        """Whether the core is gone (or this client is closed)."""
        return self._death is not None

    def close(self, timeout: float = 5.0) -> None:
        """Stop the core process and delete the sockets' directory. Idempotent; waiting calls raise EngineDeadError."""
        with self._close_lock:
            if self._closed:
                return
            self._closed = True
            self._mark_dead("the engine core was shut down")
            if self._process is not None:
                self._stop_process(self._process, timeout)
            if self._owns_core and self._addresses is not None:
                remove_socket_directory(self._addresses)
            self._release_loop_then(self._destroy_sockets)

    # ---- on the event loop ------------------------------------------------------------------------------------------

    async def outputs(self) -> CoreOutputs:
        """The next message with updates; one task at a time awaits it.

        Raises:
            EngineDeadError: the core is gone, and all it sent has been returned.
        """
        loop = self._attach_loop()
        while not self._received:
            self._check_alive()
            self._waiter = loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._received.popleft()

    def add(self, request: EngineRequest) -> None:
        """Send a request. Raises: EngineDeadError."""
        self._check_alive()
        self._send(request)

    def abort(self, request_ids: list[str]) -> None:
        """Ask the core to forget these requests; no matter if it does not know them, or is gone."""
        if request_ids and not self.dead:
            self._send(AbortRequests(request_ids))

    async def call(self, method: str, *args: Any, timeout: float = 10.0) -> Any:
        """Have the core do something between two steps; see `engine_core.CONTROL_METHODS`.

        Raises:
            EngineDeadError: the core is gone, or goes meanwhile.
            TimeoutError: no answer in time.
            OctavoError: the core refused.
        """
        loop = self._attach_loop()
        self._check_alive()
        self._next_call += 1
        call_id = self._next_call
        self._calls[call_id] = loop.create_future()
        self._send(ControlCall(call_id, method, list(args)))
        try:
            return await asyncio.wait_for(self._calls[call_id], timeout)
        finally:
            del self._calls[call_id]

    def _attach_loop(self) -> asyncio.AbstractEventLoop:
        """Have the running loop read the socket, if it does not yet."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop and not self.dead:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._output.getsockopt(zmq.FD))
            self._loop = loop
            loop.add_reader(self._output.getsockopt(zmq.FD), self._read_all)
            self._read_all()
        return loop

    def _read_all(self) -> None:
        """Take every message there is: ZeroMQ's descriptor tells of the first one only."""
        while (message := self._receive()) is not None:
            self._dispatch(message)
        if self._death is not None:
            self._wake_all()

    def _dispatch(self, message: CoreMessage) -> None:
        if isinstance(message, CoreOutputs):
            self._received.append(message)
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)
        elif isinstance(message, ControlReply):
            self._resolve_call(message)
        elif isinstance(message, Failed):
            self._mark_dead(f"the engine core failed: {message.message}")
        elif isinstance(message, Ready):
            self.ready = message

    def _resolve_call(self, reply: ControlReply) -> None:
        future = self._calls.get(reply.call_id)
        if future is None or future.done():
            return
        if reply.error is not None:
            future.set_exception(OctavoError(reply.error))
        else:
            future.set_result(reply.value)

    def _wake_all(self) -> None:
        """The core is gone: everyone who waits learns it."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        for future in self._calls.values():
            if not future.done():
                future.set_exception(self._dead_error())

    # ---- the wire ---------------------------------------------------------------------------------------------------

    def _connect(self, addresses: Addresses) -> None:
        self._context = zmq.Context()
        self._output = make_socket(self._context, zmq.DEALER, self._identity)
        self._output.connect(addresses.output)
        self._input = make_socket(self._context, zmq.DEALER, self._identity)
        self._input.connect(addresses.input)
        self._send(Hello(WIRE_VERSION))

    def _send(self, message: ClientMessage) -> None:
        self._input.send_multipart(self._encoder.encode(message), copy=False)

    def _receive(self) -> CoreMessage | None:
        """The next message that can be read, None when there is none now."""
        while self._context is not None and not self._output.closed:
            try:
                frames = receive(self._output, zmq.NOBLOCK)
                message: CoreMessage = self._decoder.decode(frames)
                return message
            except zmq.Again:
                return None
            except WireError as error:
                logger.error("dropped a malformed message of the engine core: %s", error)
        return None

    def _receive_blocking(self, timeout_ms: int) -> CoreMessage | None:
        if self._context is None:
            raise RuntimeError("the core has not been spawned")
        if self._output.closed:
            raise EngineStartError("the engine core was shut down before it was ready")
        self._output.poll(timeout_ms)
        return self._receive()

    # ---- death ------------------------------------------------------------------------------------------------------

    def _check_alive(self) -> None:
        if self._death is not None:
            raise self._dead_error()

    def _dead_error(self) -> EngineDeadError:
        return EngineDeadError(self._death or "the engine core is gone")

    def _become_ready(self, ready: Ready) -> None:
        self.ready = ready
        if not self._owns_core:
            self._watch(self._wait_for_stranger, ready.pid)

    def _watch(self, target: Callable[..., None], *args: Any) -> None:
        threading.Thread(target=target, args=args, name="octavo-core-watch", daemon=True).start()

    def _wait_for_exit(self) -> None:
        process = self._process
        if process is not None:
            self._mark_dead(f"the engine core process {process.pid} {_exit_text(process.wait())}")

    def _wait_for_stranger(self, pid: int) -> None:
        """Wait for the end of a process of this host that is not our child."""
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._mark_dead(f"the engine core process {pid} is gone")
            return
        try:
            poller = zmq.Poller()
            poller.register(descriptor, zmq.POLLIN)
            while self._death is None:
                if poller.poll(1000):
                    self._mark_dead(f"the engine core process {pid} is gone")
        finally:
            os.close(descriptor)

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

    def _stop_process(self, process: subprocess.Popen[bytes], timeout: float) -> None:
        """The end of its stdin asks the core to end; it has `timeout` seconds."""
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            logger.warning("the engine core did not end within %g s; killing it", timeout)
            process.kill()
            process.wait()

    def _release_loop_then(self, action: Callable[[], None]) -> None:
        """Run `action` where nobody uses the sockets: on their loop, if it still runs, else here."""
        loop = self._loop
        if loop is not None and loop.is_running():
            try:
                loop.call_soon_threadsafe(action)
                return
            except RuntimeError:
                logger.debug("the event loop closed before the client did")
        action()

    def _destroy_sockets(self) -> None:
        if self._context is None:
            return
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._output.getsockopt(zmq.FD))
        self._input.close(linger=0)
        self._output.close(linger=0)
        self._context.term()


def _exit_text(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"exited with code {code}"
