"""Sending an Input and taking what comes back apart."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from chaos.inputs import Input, Piece

QUIET = 0.5
"""Seconds of silence after a whole answer that end the wait for more, on a connection that stays open."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_RESET = struct.pack("ii", 1, 0)


class Answer(NamedTuple):
    """One HTTP answer; headers have small names."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool


@dataclass
class Result:
    """What became of an input.

    Attributes:
        began, ended: on the clock of `time.monotonic`.
        hung: neither an answer nor the connection's end came within the patience.
        refused: nobody listened.
    """

    input: Input
    began: float
    ended: float = 0.0
    answers: list[Answer] = field(default_factory=list)
    hung: bool = False
    refused: bool = False


async def send(host: str, port: int, item: Input, patience: float) -> Result:
    """Be this client, once, for at most `patience` seconds (or the input's own)."""
    pieces = item.make()
    result = Result(item, time.monotonic())
    is_head = isinstance(pieces[0], bytes) and pieces[0].startswith(b"HEAD ")
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), patience)
    except (OSError, TimeoutError):
        result.refused, result.ended = True, time.monotonic()
        return result
    received = bytearray()
    writing = asyncio.create_task(_write(writer, pieces))
    reading = asyncio.create_task(_read(reader, received, writing, is_head) if item.reads else asyncio.sleep(float("inf")))
    try:
        await _wait(item, writing, reading, item.patience or patience)
        closed = reading.done()
        result.hung = not closed and item.leaves_after is None
        result.answers = parse(bytes(received), is_head, closed)
    finally:
        for task in (writing, reading):
            task.cancel()
        await asyncio.gather(writing, reading, return_exceptions=True)
        await _leave(writer, item.resets)
    result.ended = time.monotonic()
    return result


async def _wait(item: Input, writing: asyncio.Task[None], reading: asyncio.Task[None], patience: float) -> None:
    if item.leaves_after is None:
        await asyncio.wait({reading}, timeout=patience)
        return
    await asyncio.wait({writing, reading}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait({reading}, timeout=item.leaves_after)


async def _write(writer: asyncio.StreamWriter, pieces: Sequence[Piece]) -> None:
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            if isinstance(piece, float):
                await asyncio.sleep(piece)
                continue
            writer.write(piece)
            await writer.drain()


async def _read(reader: asyncio.StreamReader, into: bytearray, writing: asyncio.Task[None], is_head: bool) -> None:
    """Until the server closes, or has answered and then says nothing more."""
    while True:
        try:
            data = await asyncio.wait_for(reader.read(2**18), QUIET)
        except TimeoutError:
            answers = parse(bytes(into), is_head, closed=False)
            if writing.done() and answers and answers[-1].whole and answers[-1].status >= 200:
                return
            continue
        except ConnectionError:
            return
        if not data:
            return
        into += data


async def _leave(writer: asyncio.StreamWriter, resets: bool) -> None:
    sock = writer.get_extra_info("socket")
    if resets and sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def parse(data: bytes, is_head: bool, closed: bool) -> list[Answer]:
    """The answers in what a server sent.

    Args:
        is_head: they answer a HEAD, and have no bodies.
        closed: the server closed the connection, which ends a body of no given length.
    """
    answers = []
    while match := _STATUS.match(data):
        start, found, rest = data.partition(b"\r\n\r\n")
        if not found:
            answers.append(Answer(int(match[1]), {}, b"", whole=False))
            return answers
        headers = dict(_header(line) for line in start.split(b"\r\n")[1:])
        status = int(match[1])
        body, data, whole = _body(status, headers, rest, is_head, closed)
        answers.append(Answer(status, headers, body, whole))
    return answers


def _header(line: bytes) -> tuple[str, str]:
    name, _, value = line.decode("latin-1").partition(":")
    return name.lower(), value.strip()


def _body(status: int, headers: dict[str, str], rest: bytes, is_head: bool, closed: bool) -> tuple[bytes, bytes, bool]:
    """Body, what follows it, and whether it is complete."""
    if is_head or status < 200 or status in (204, 304):
        return b"", rest, True
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _dechunked(rest)
    if "content-length" in headers:
        length = int(headers["content-length"])
        return rest[:length], rest[length:], len(rest) >= length
    return rest, b"", closed


def _dechunked(rest: bytes) -> tuple[bytes, bytes, bool]:
    parts = []
    while True:
        line, found, after = rest.partition(b"\r\n")
        size = int(line.split(b";")[0] or b"0", 16) if found else 0
        if not found or len(after) < size + 2:
            return b"".join(parts), b"", False
        if size == 0:
            return b"".join(parts), after[2:], True
        parts.append(after[:size])
        rest = after[size + 2 :]
