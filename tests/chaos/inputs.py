"""What is sent to a server: bytes for a connection of its own, when they are sent, and when the client leaves.

Everything goes through a plain socket, for no HTTP client would send half of it. Large inputs are made when they are sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Piece = bytes | float
"""Bytes to send, or seconds to wait before the next ones."""
HOST = "localhost"


@dataclass(frozen=True)
class Input:
    """One hostile client.

    Attributes:
        name: `family/what`, unique; an input is found again by it.
        make: the pieces to send.
        expected: statuses that are right; None = any that are no fault of the server's (2xx, 4xx, 504).
        silent: closing the connection without an answer is right, too.
        leaves_after: seconds after the last piece, or None: the client waits for the whole answer.
        resets: it leaves with a TCP reset instead of a polite end.
        reads: False = it does not take what is sent to it.
        copies: so many of it come at the same time.
        patience: seconds without an answer after which the server counts as hanging; None = the runner's.
    """

    name: str
    make: Callable[[], Sequence[Piece]] = field(repr=False)
    expected: frozenset[int] | None = None
    silent: bool = False
    leaves_after: float | None = None
    resets: bool = False
    reads: bool = True
    copies: int = 1
    patience: float | None = None

    @property
    def family(self) -> str:
        return self.name.partition("/")[0]


def head(method: str, path: str, headers: dict[str, str]) -> bytes:
    """The first lines of a request whose connection ends with it."""
    lines = {"Host": HOST, "Connection": "close", **headers}
    return (f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n").encode("latin-1")


def post_bytes(path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    """A whole POST of JSON."""
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    return head("POST", path, fields) + body


def chunked(body: bytes, sizes: Iterator[int]) -> bytes:
    """A body in HTTP's chunked coding, cut into chunks of `sizes`."""
    parts, at = [], 0
    while at < len(body):
        piece = body[at : at + max(1, next(sizes))]
        parts.append(b"%x\r\n%b\r\n" % (len(piece), piece))
        at += len(piece)
    return b"".join([*parts, b"0\r\n\r\n"])


def post(
    name: str, path: str, body: dict[str, Any] | bytes | Callable[[], dict[str, Any] | bytes], *expected: int, **options: Any
) -> Input:
    """An Input that POSTs a body: an object, bytes, or what makes either.

    Args:
        expected: the statuses that are right; none = see `Input.expected`.
        options: `headers`, and attributes of Input.
    """
    headers = options.pop("headers", None)

    def make() -> list[Piece]:
        made = body() if callable(body) else body
        data = made if isinstance(made, bytes) else json.dumps(made).encode()
        return [post_bytes(path, data, headers)]

    return Input(name, make, frozenset(expected) or None, **options)


def get(
    name: str, path: str, *expected: int, method: str = "GET", headers: dict[str, str] | None = None, **options: Any
) -> Input:
    """An Input without a body."""
    return Input(name, lambda: [head(method, path, headers or {})], frozenset(expected) or None, **options)


def raw(name: str, *pieces: Piece, expected: Sequence[int] = (400,), **options: Any) -> Input:
    """An Input of these very bytes."""
    return Input(name, lambda: pieces, frozenset(expected), **options)
