"""A plugin's process: `python -m octavo.frontend.io_processing.worker SOCKET PAGE`, descriptors of a socket to the frontend and of shared memory
in which stands the number of the call whose code runs.

The plugin lives in a thread, as it does in the frontend; the main thread reads, writes and watches the time. A call that hangs,
or needs more memory than is allowed, ends the process, which says before whose fault it was.
"""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial

import msgspec

from octavo import envs
from octavo.config import EngineConfig
from octavo.errors import PluginError
from octavo.frontend.io_processing import wire
from octavo.frontend.io_processing.host import GRACE, HostLostError, ThreadHost
from octavo.frontend.io_processing.making import calls_of
from octavo.log_format import make_formatter
from octavo.plugins.generations import Outside, PluginCalls


class Worker:
    """One plugin, served to one frontend."""

    def __init__(self, config: EngineConfig, plugin: str, writer: asyncio.StreamWriter, on_step: Callable[[int], None]) -> None:
        self._plugin = plugin
        self._memory = config.io_processor.memory_bytes
        self._writer = writer
        self._tasks: dict[int, asyncio.Task[None]] = {}
        make = partial(calls_of, plugin, config)
        self.host = ThreadHost(plugin, make, config.io_processor.timeout, self._end_soon, on_step)

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Take calls until the frontend is gone."""
        while True:
            try:
                message = wire.decode_to_worker(await read_frame(reader))
            except (asyncio.IncompleteReadError, OSError):
                return
            if isinstance(message, wire.Cancel):
                task = self._tasks.get(message.call)
                if task is not None:
                    task.cancel()
            elif isinstance(message, wire.Forget):
                self.host.forget(message.request_id)
            elif isinstance(message, wire.Prepare | wire.Finish):
                task = asyncio.create_task(self._answer(message))
                self._tasks[message.call] = task
                task.add_done_callback(partial(self._forget, message.call))

    def _forget(self, call: int, _: asyncio.Task[None]) -> None:
        self._tasks.pop(call, None)

    async def _answer(self, message: wire.Prepare | wire.Finish) -> None:
        loop = asyncio.get_running_loop()

        def began() -> None:
            loop.call_soon_threadsafe(self._send, wire.Began(message.call))

        try:
            reply = await self.host.call(partial(_work, message), message.call, began)
        except HostLostError:
            return  # the call at whose fault it is has its answer, and the process ends with it
        except Exception as error:  # noqa: BLE001  (the frontend is told)
            await self._fail(message.call, error)
        else:
            self._send(reply)

    async def _fail(self, call: int, error: Exception) -> None:
        memory = isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError)
        if memory:
            limit = f"{self._memory / 2**30:.3g} GiB (--io-processor-memory)"
            error = PluginError(f"the IO Processor plugin {self._plugin!r} needs more memory than the {limit} it may have")
        last = memory or self.host.lost
        self._send(wire.failed(call, error, last=last))
        if last:
            await self._writer.drain()
            os._exit(1)

    def _end_soon(self) -> None:
        """End though nobody waits for the call that hangs; where somebody does, `_fail` tells them first."""
        asyncio.get_running_loop().call_later(GRACE, os._exit, 1)

    def _send(self, message: wire.FromWorker) -> None:
        call = getattr(message, "call", 0)
        try:
            data = wire.encode(message)
        except (TypeError, ValueError, MemoryError) as error:
            data = wire.encode(wire.failed(call, PluginError(f"the IO Processor plugin {self._plugin!r}: {error}")))
        self._writer.write(data)


async def _work(
    message: wire.Prepare | wire.Finish, plugin: PluginCalls, outside: Outside
) -> wire.PreparedReply | wire.DoneReply:
    """In the plugin's threads."""
    if isinstance(message, wire.Finish):
        outputs = [(index, wire.output_in(output)) for index, output in message.outputs]
        done = await plugin.finish(
            outputs, message.request_id, online=message.online, answer_id=message.answer_id, outside=outside
        )
        return wire.DoneReply(message.call, done.output, done.seconds)
    params = wire.params_in(message.params)
    prepared = await plugin.prepare(
        message.request, message.request_id, params, online=message.online, generate=message.generate, outside=outside
    )
    each = [wire.params_out(one) or {} for one in prepared.params]
    return wire.PreparedReply(message.call, prepared.prompts, each, prepared.seconds)


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """One document. Raises: asyncio.IncompleteReadError: the other end is gone."""
    (length,) = wire.LENGTH.unpack(await reader.readexactly(wire.LENGTH.size))
    return await reader.readexactly(length)


async def _main(descriptor: int, page: mmap.mmap) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=descriptor))
    setup = wire.decode_to_worker(await read_frame(reader))
    if not isinstance(setup, wire.Setup):
        raise TypeError(f"the first message must be Setup, got {type(setup).__name__}")
    config = msgspec.msgpack.decode(setup.config, type=EngineConfig)
    limit = config.io_processor.memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    worker = Worker(config, setup.plugin, writer, partial(wire.LENGTH.pack_into, page, 0))
    try:
        await asyncio.to_thread(worker.host.start)
    except Exception as error:  # noqa: BLE001  (the frontend is told)
        writer.write(wire.encode(wire.failed(0, error, last=True)))
        await writer.drain()
        os._exit(1)
    writer.write(wire.encode(wire.Loaded(worker.host.schemas)))
    await worker.serve(reader)


def main() -> None:
    """Serve a plugin until the frontend is gone."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(make_formatter("plugin"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("octavo").setLevel(envs.LOG_LEVEL.upper())
    # It ends when the frontend does, which drains first.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _nothing)
    asyncio.run(_main(int(sys.argv[1]), mmap.mmap(int(sys.argv[2]), wire.LENGTH.size)))
    os._exit(0)  # a plugin's thread that hangs must not keep the process


def _nothing(*_: object) -> None:
    """No SIG_IGN: processes that a plugin starts would have it, too."""


if __name__ == "__main__":
    main()
