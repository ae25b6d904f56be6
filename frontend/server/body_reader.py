"""A request's body as plain bytes: within a size, within a time, unpacked within the same size, off the event loop.

Nothing is read before the route, the key and the announced size are known to be right. A packed body is never held in a
larger form than --max-body-size.
"""

from __future__ import annotations

import asyncio
import zlib
from http import HTTPStatus

from aiohttp import HttpVersion11, hdrs, web

from octavo.errors import QueueFullError
from octavo.frontend.server.errors import ApiError, SchemaError
from octavo.frontend.server.state import STATE

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""zlib's setting for each Content-Encoding that is understood."""
_ACCEPTED = "gzip, deflate"
_MAX_MEMBERS = 1024
"""Parts of a gzip body, each a whole gzip file: empty ones would cost time and bring nothing."""
_SLICE = 64 * 1024
_SMALL_CHUNK = 16
"""Bytes that a body's chunks must have in the mean, where there are many: each is work for the event loop."""
_MAX_SMALL_CHUNKS = 10_000
_BODIES_AT_ONCE = 16
"""Bodies of the largest size that may be in memory while they are read; many more of the usual size are."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


Data = bytes | bytearray
"""A body as it was gathered: a copy of 30 MiB would hold the event loop up for 35 ms."""


async def read_bytes(request: web.Request) -> Data:
    """The body, unpacked.

    Raises:
        ApiError: 408, it did not come within --body-timeout; 413, it is larger than --max-body-size; 415, its encoding is
            not understood; 501, the transfer's is not.
        QueueFullError: too much is being received already.
        SchemaError: the transfer or its packing is broken.
    """
    options = request.app[STATE].options
    _check_transfer(request)
    encoding = _content_encoding(request)
    if request.content_length is not None and request.content_length > options.max_body_size:
        raise _too_large(options.max_body_size)
    if request.headers.get(hdrs.EXPECT) and request.version >= HttpVersion11:
        await request.writer.write(_CONTINUE)
        request.writer.output_size = 0
    try:
        async with asyncio.timeout(options.body_timeout or None):
            data = await _received(request)
    except TimeoutError:
        message = f"the body did not come within {options.body_timeout:g} s (--body-timeout)"
        raise ApiError(HTTPStatus.REQUEST_TIMEOUT, message, headers={hdrs.CONNECTION: "close"}) from None
    except (web.RequestPayloadError, web.HTTPException) as error:
        raise SchemaError(f"the body is malformed: {' '.join(str(error).split())[:200]}") from None
    if encoding is None:
        return data
    threads = request.app[STATE].body_threads
    return await asyncio.get_running_loop().run_in_executor(threads, unpacked, data, encoding, options.max_body_size)


def unpacked(data: Data, encoding: str, limit: int) -> bytes:
    """A packed body's content.

    Args:
        data: the packed body; several gzip parts one behind the other are one content.
        encoding: gzip, x-gzip or deflate.
        limit: bytes the content may have.

    Raises:
        ApiError: 413, it has more.
        SchemaError: it is no such data, ends too early, or something follows it.
    """
    content = bytearray()
    unpacker = zlib.decompressobj(_WINDOW_BITS[encoding])
    members = 1
    try:
        for start in range(0, len(data), _SLICE):
            rest = data[start : start + _SLICE]
            while rest:
                if unpacker.eof:
                    members += 1
                    if encoding == "deflate" or members > _MAX_MEMBERS:
                        raise SchemaError(f"the {encoding} body has data behind its end")
                    unpacker = zlib.decompressobj(_WINDOW_BITS[encoding])
                # One byte more than may come, so that too much is noticed.
                content += unpacker.decompress(rest, limit + 1 - len(content))
                if len(content) > limit:
                    raise _too_large(limit)
                rest = unpacker.unconsumed_tail or unpacker.unused_data
    except zlib.error as error:
        raise SchemaError(f"the body is not valid {encoding} data: {error}") from None
    if not unpacker.eof:
        raise SchemaError(f"the {encoding} body ends too early")
    return bytes(content)


def _check_transfer(request: web.Request) -> None:
    coding = ", ".join(request.headers.getall(hdrs.TRANSFER_ENCODING, ["chunked"])).strip().lower()
    if coding != "chunked":
        message = f"the Transfer-Encoding {coding[:100]!r} is not understood; the only one is chunked"
        raise ApiError(HTTPStatus.NOT_IMPLEMENTED, message, headers={hdrs.CONNECTION: "close"})


def _content_encoding(request: web.Request) -> str | None:
    """How the body is packed; None when it is not.

    Raises:
        ApiError: 415, in a way that is not understood.
    """
    encoding = ", ".join(request.headers.getall(hdrs.CONTENT_ENCODING, [])).strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding not in _WINDOW_BITS:
        message = f"the Content-Encoding {encoding[:100]!r} is not understood; send the body plain, or as one of {_ACCEPTED}"
        raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message, headers={hdrs.ACCEPT_ENCODING: _ACCEPTED})
    return encoding


async def _received(request: web.Request) -> bytearray:
    """The body as it was sent."""
    state = request.app[STATE]
    limit, data, num_chunks = state.options.max_body_size, bytearray(), 0
    try:
        # A byte, to wait for more; its chunks are counted before the rest is taken.
        while chunk := await request.content.read(1):
            num_chunks += len(request.content._http_chunk_splits or ())
            chunk += request.content.read_nowait(-1)
            data += chunk
            state.body_bytes += len(chunk)
            if num_chunks > _MAX_SMALL_CHUNKS and len(data) < num_chunks * _SMALL_CHUNK:
                raise SchemaError(f"the body comes in too many chunks of less than {_SMALL_CHUNK} bytes")
            if len(data) > limit:
                raise _too_large(limit)
            if state.body_bytes > _BODIES_AT_ONCE * limit and len(data) < state.body_bytes:
                raise QueueFullError("too many large bodies are being received already")
        return data
    finally:
        state.body_bytes -= len(data)


def _too_large(limit: int) -> ApiError:
    message = f"the request body is larger than {limit} bytes (--max-body-size)"
    return ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
