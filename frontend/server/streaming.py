"""Streams: engine outputs -> bytes on the socket, one write an output.

The first output and the last pass through the handler's task. Those between go from the engine straight to the socket,
for waking a task costs more than all the rest of a token's way, unless the client reads too slowly: then the task is
woken, waits for the socket, and takes what has gathered meanwhile.

The status line is held back until the first output, so that a request refused by the engine still gets its proper
status. A client that goes away cancels the handler (aiohttp's handler_cancellation), which closes the engine's
generator, which aborts the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol

from aiohttp import hdrs, web

from octavo.frontend.server.errors import ApiError, describe, error_body
from octavo.frontend.server.generation import Generation, Outputs, answer_weight
from octavo.frontend.server.record import RequestRecord
from octavo.frontend.server.state import STATE
from octavo.outputs import RequestOutput

if TYPE_CHECKING:
    from octavo.frontend.async_llm import AsyncLLM

SSE_END = b"data: [DONE]\n\n"
SSE_KEEP_ALIVE = b": keep-alive\n\n"


class StreamEncoder(Protocol):
    """An endpoint's way to write its stream."""

    content_type: str
    keep_alive: bytes
    """Sent when nothing else was for a while; empty = the format has no such thing."""

    def chunk(self, index: int, output: RequestOutput, /) -> bytes:
        """What is new of prompt `index`; may be empty."""

    def end(self) -> bytes:
        """After the last chunk."""

    def error(self, error: ApiError) -> bytes:
        """Instead of the rest of the stream."""


def sse_event(data: bytes) -> bytes:
    """One server-sent event."""
    return b"data: " + data + b"\n\n"


def sse_error(error: ApiError) -> bytes:
    """The last events of a stream that fails half way."""
    return sse_event(error_body(error)) + SSE_END


async def stream_response(
    request: web.Request, engine: AsyncLLM, generation: Generation, encoder: StreamEncoder
) -> web.StreamResponse:
    """Run a generation and stream it to the client.

    Raises:
        whatever the engine raises before its first output; later failures become part of the stream.
    """
    # The last header asks nginx not to gather chunks.
    headers = {"Content-Type": encoder.content_type, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    response = _Stream(headers=headers)
    interval = request.app[STATE].options.sse_keep_alive_interval if encoder.keep_alive else 0.0
    # The task sees no silence in what passes it by.
    writer = None if interval else DirectWriter(request, encoder)
    outputs = generation.outputs(engine, writer)
    running, last = generation.num_prompts, b""
    async with aclosing(_with_pauses(outputs, interval) if interval else outputs) as items:
        try:
            async for item in items:
                data = encoder.keep_alive if item is None else await _chunk(engine, generation, encoder, *item)
                if not response.prepared:
                    await response.prepare(request)
                running -= item is not None and item[1].finished
                if not running:
                    last = data
                elif data:
                    await response.write(data)
                    if writer is not None:
                        writer.open(response)
            await response.write_eof(last + encoder.end())
        except ConnectionError:
            return _abandoned(generation.record, response)
        except Exception as error:
            if not response.prepared:
                raise
            await _write_error(response, encoder, describe(error), generation.record)
    return response


async def _chunk(engine: AsyncLLM, generation: Generation, encoder: StreamEncoder, index: int, output: RequestOutput) -> bytes:
    """The encoder's chunk; made in a thread where much has gathered for a client that reads slowly."""
    size = answer_weight([output], generation.params)
    return await engine.input_processor.texts.run(size, encoder.chunk, index, output)


class _Stream(web.StreamResponse):
    """Its headers leave together with the first chunk: every write is a packet, and a client that wakes up."""

    _send_headers_immediately = False


class DirectWriter:
    """The OutputSink of one stream: writes chunks to the connection at once, while the client keeps up."""

    __slots__ = ("_chunk", "_chunked", "_opened", "_protocol")

    def __init__(self, request: web.Request, encoder: StreamEncoder) -> None:
        self._protocol = request.protocol
        self._chunk = encoder.chunk
        self._opened = self._chunked = False

    def open(self, response: web.StreamResponse) -> None:
        """The headers and a first chunk have been written."""
        self._opened = True
        self._chunked = response.headers.get(hdrs.TRANSFER_ENCODING) == "chunked"

    def ready(self) -> bool:
        protocol = self._protocol
        transport = protocol.transport
        return self._opened and not protocol.writing_paused and transport is not None and not transport.is_closing()

    def put(self, output: RequestOutput) -> None:
        data, transport = self._chunk(0, output), self._protocol.transport
        if data and transport is not None:
            transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)


async def _write_error(response: web.StreamResponse, encoder: StreamEncoder, error: ApiError, record: RequestRecord) -> None:
    record.outcome, record.reason = f"{error.status} in mid-stream", str(error)
    try:
        await response.write(encoder.error(error))
    except ConnectionError:
        _abandoned(record, response)


def _abandoned(record: RequestRecord, response: web.StreamResponse) -> web.StreamResponse:
    record.outcome = "disconnected"
    return response


async def _with_pauses(outputs: Outputs, interval: float) -> AsyncGenerator[tuple[int, RequestOutput] | None, None]:
    """`outputs`, with a None for each `interval` seconds of silence."""
    following: asyncio.Future[tuple[int, RequestOutput]] | None = None
    async with aclosing(outputs):
        try:
            while True:
                following = following or asyncio.ensure_future(anext(outputs))
                done, _ = await asyncio.wait({following}, timeout=interval)
                if not done:
                    yield None
                    continue
                try:
                    item = following.result()
                except StopAsyncIteration:
                    return
                following = None
                yield item
        finally:
            if following is not None and not following.done():
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
