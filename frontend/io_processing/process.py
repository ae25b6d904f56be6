"""A plugin in a process of its own, as the frontend sees it: calls out, replies back, and an end whatever the plugin does."""

from __future__ import annotations

import asyncio
import itertools
import logging
import mmap
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from octavo import envs
from octavo.config import EngineConfig
from octavo.errors import OctavoError, PluginError, PluginUnavailableError, RequestTimeoutError
from octavo.frontend.io_processing import wire
from octavo.frontend.io_processing.host import GRACE, HostLostError, start_timed_out
from octavo.frontend.io_processing.worker import read_frame
from octavo.plugins.generations import Done, Params, Prepared, Schemas
from octavo.plugins.io_processor import ModelOutput
from octavo.plugins.messages import IOProcessorRequest

logger = logging.getLogger(__name__)

_LARGE = 1 << 20
"""Bytes of a message that is not decoded on the event loop."""
_BACKSTOP = 3 * GRACE
"""Seconds beyond a call's time after which a process that does not say so itself is killed: no thread of it runs any more."""


@dataclass(eq=False)
class _Call:
    future: asyncio.Future[Any]
    began: float | None = None


class ProcessHost:
    """A plugin in a process.

    Args:
        name: of the plugin.
        config: the process gets it.
    """

    def __init__(self, name: str, config: EngineConfig) -> None:
        self._name, self._config = name, config
        self._timeout = config.io_processor.timeout
        self._ids = itertools.count(1)
        self._calls: dict[int, _Call] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._page: mmap.mmap | None = None
        self._connecting = asyncio.Lock()
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._lost = False
        self.schemas: Schemas = {}

    @property
    def lost(self) -> bool:
        return self._lost

    @property
    def hangs(self) -> bool:
        return False

    @property
    def load(self) -> int:
        return len(self._calls)

    @property
    def pid(self) -> int:
        """Of the process; 0 before the start."""
        return 0 if self._process is None else self._process.pid

    def start(self) -> None:
        ours, theirs = socket.socketpair()
        shared = os.memfd_create("octavo-plugin")
        try:
            os.ftruncate(shared, wire.LENGTH.size)
            self._page = mmap.mmap(shared, wire.LENGTH.size)
            descriptors = [theirs.fileno(), shared]
            command = [sys.executable, "-m", "octavo.frontend.io_processing.worker", *map(str, descriptors)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=descriptors)
        finally:
            theirs.close()
            os.close(shared)
        self._socket = ours
        ours.sendall(wire.encode(wire.Setup(msgspec.msgpack.encode(self._config), self._name)))
        try:
            ours.settimeout(envs.START_TIMEOUT)
            reply = wire.decode_from_worker(_read_blocking(ours))
            ours.settimeout(None)
        except TimeoutError:
            self.close()
            raise start_timed_out(self._name) from None
        except EOFError:
            self.close()
            raise PluginUnavailableError(
                f"the process of the IO Processor plugin {self._name!r} died while it started"
            ) from None
        if isinstance(reply, wire.Failed):
            self.close()
            raise wire.raised(reply, self._name)
        if isinstance(reply, wire.Loaded):
            self.schemas = reply.schemas

    async def prepare(
        self, request: IOProcessorRequest[Any], request_id: str | None, params: Params | None, *, online: bool, generate: bool
    ) -> Prepared:
        call = next(self._ids)
        message = wire.Prepare(call, request, request_id, wire.params_out(params), online, generate)
        reply: wire.PreparedReply = await self._ask(call, message)
        each = [wire.params_in(one) for one in reply.params]
        return Prepared(reply.prompts, [one for one in each if one is not None], reply.seconds)

    async def finish(
        self, outputs: Sequence[tuple[int, ModelOutput]], request_id: str | None, *, online: bool, answer_id: str
    ) -> Done:
        call = next(self._ids)
        plain = [(index, wire.output_out(output)) for index, output in outputs]
        reply: wire.DoneReply = await self._ask(call, wire.Finish(call, plain, request_id, online, answer_id))
        return Done(reply.output, reply.seconds)

    def forget(self, request_id: str | None) -> None:
        if self._writer is not None and not self._lost:
            self._writer.write(wire.encode(wire.Forget(request_id)))

    def close(self) -> None:
        self._lost = True
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._socket is not None and self._writer is None:
            self._socket.close()

    async def _ask(self, number: int, message: wire.Prepare | wire.Finish) -> Any:
        """The reply to a message; a caller that goes away takes its question back."""
        call = self._calls[number] = _Call(asyncio.get_running_loop().create_future())
        try:
            writer = await self._connected()
            writer.write(await asyncio.to_thread(wire.encode, message))
        except TypeError as error:
            self._calls.pop(number, None)
            raise PluginError(f"the request cannot go to the process of {self._name!r}: {error}", plugin=self._name) from error
        except BaseException:
            self._calls.pop(number, None)
            raise
        try:
            return await asyncio.shield(call.future)
        except asyncio.CancelledError:
            writer.write(wire.encode(wire.Cancel(number)))
            raise

    async def _connected(self) -> asyncio.StreamWriter:
        if self._lost:
            raise HostLostError("the plugin's process has ended")
        async with self._connecting:
            if self._writer is None:
                reader, self._writer = await asyncio.open_unix_connection(sock=self._socket)
                loop = asyncio.get_running_loop()
                self._tasks = [loop.create_task(self._read(reader)), loop.create_task(self._watch())]
            return self._writer

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Hand replies to those who wait, until the process ends."""
        try:
            while True:
                frame = await read_frame(reader)
                large = len(frame) > _LARGE
                self._take(await asyncio.to_thread(wire.decode_from_worker, frame) if large else wire.decode_from_worker(frame))
        except (asyncio.IncompleteReadError, OSError, msgspec.DecodeError) as error:
            logger.debug("the process of the plugin %s is gone: %s", self._name, error)
        await self._bury()

    def _take(self, message: wire.FromWorker) -> None:
        call = self._calls.get(getattr(message, "call", 0))
        if call is None:
            return
        if isinstance(message, wire.Began):
            call.began = time.monotonic()
            return
        self._calls.pop(message.call, None)  # type: ignore[union-attr]
        if isinstance(message, wire.Failed):
            self._lost |= message.last
            _settle(call, error=wire.raised(message, self._name))
        else:
            _settle(call, message)

    async def _watch(self) -> None:
        """Kill a process that no longer keeps the time itself."""
        while not self._lost:
            await asyncio.sleep(min(1.0, self._timeout))
            late = time.monotonic() - self._timeout - _BACKSTOP
            for number, call in list(self._calls.items()):
                if call.began is not None and call.began < late and self._at_work in (0, number):
                    self._calls.pop(number, None)
                    text = f"the IO Processor plugin {self._name!r} took more than {self._timeout:g} s (--io-processor-timeout)"
                    _settle(call, error=RequestTimeoutError(text))
                    self._kill()

    def _kill(self) -> None:
        self._lost = True
        if self._process is not None:
            self._process.kill()

    async def _bury(self) -> None:
        """The process has ended: of the call whose code ran, if it had not been told to; the others are tried again."""
        self._kill()
        code = 0 if self._process is None else await asyncio.to_thread(self._process.wait)
        if self._writer is not None:
            self._writer.close()
        for number, call in list(self._calls.items()):
            _settle(
                call, error=self._died_of(code) if number == self._at_work else HostLostError("the plugin's process has ended")
            )
        self._calls.clear()

    @property
    def _at_work(self) -> int:
        """Number of the call whose code runs in the process, or ran when it ended; 0 = none."""
        number: int = 0 if self._page is None else wire.LENGTH.unpack_from(self._page)[0]
        return number

    def _died_of(self, code: int) -> OctavoError:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return PluginError(f"the process of the IO Processor plugin {self._name!r} died ({how})", plugin=self._name)


def _settle(call: _Call, result: Any = None, error: OctavoError | None = None) -> None:
    if call.future.done():
        return
    if error is None:
        call.future.set_result(result)
    else:
        call.future.set_exception(error)


def _read_blocking(source: socket.socket) -> bytes:
    (length,) = wire.LENGTH.unpack(_exactly(source, wire.LENGTH.size))
    return _exactly(source, length)


def _exactly(source: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = source.recv(min(size - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
