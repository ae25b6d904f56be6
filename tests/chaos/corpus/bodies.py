"""Bodies whose bytes are the attack: bombs, half a stream of gzip, unknown codings, sizes beyond the limit, hostile JSON."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Iterator
from functools import cache

from chaos.inputs import Input, Piece, head, post, post_bytes

COMPLETIONS = "/v1/completions"
_SMALL = json.dumps({"prompt": "a", "max_tokens": 1}).encode()
_MIB = 2**20
_REFUSED = (400, 413, 415)
_READ_OR_REFUSED = (200, *_REFUSED)


def inputs() -> Iterator[Input]:
    yield from _compressed()
    yield from _large()
    yield from _json()


@cache
def bomb(mebibytes: int) -> bytes:
    """gzip of a JSON prompt of that size, about a thousandth as long: one member, its checksum right."""
    start, end, block = b'{"max_tokens": 1, "prompt": "', b'"}', b"a" * _MIB
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    parts = [packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)]
    # After a full flush nothing refers back: one block is the same as every other.
    one = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    parts += [one] * mebibytes
    parts.append(packer.compress(end) + packer.flush())
    checksum = zlib.crc32(start)
    for _ in range(mebibytes):
        checksum = zlib.crc32(block, checksum)
    size = len(start) + mebibytes * _MIB + len(end)
    trailer = struct.pack("<II", zlib.crc32(end, checksum), size % 2**32)
    return b"\x1f\x8b\x08" + bytes(6) + b"\xff" + b"".join(parts) + trailer


def _compressed() -> Iterator[Input]:
    def coded(name: str, coding: str, make: object, *expected: int, path: str = COMPLETIONS) -> Input:
        return post(f"bodies/{name}", path, make, *expected, headers={"Content-Encoding": coding}, silent=True)  # type: ignore[arg-type]

    for path in (COMPLETIONS, "/v1/chat/completions", "/generate", "/tokenize", "/detokenize"):
        yield coded(f"gzip of 1 GiB to {path}", "gzip", lambda: bomb(1024), *_REFUSED, path=path)
    yield coded("gzip of 31 MiB", "gzip", lambda: bomb(31), *_REFUSED)
    yield coded("gzip of 1 GiB, to a route that is not there", "gzip", lambda: bomb(1024), 404, *_REFUSED, path="/nowhere")
    yield coded("gzip of 1 GiB, to a route that wants none", "gzip", lambda: bomb(1024), 405, *_REFUSED, path="/version")
    yield coded("gzip in gzip", "gzip, gzip", lambda: gzip.compress(bomb(1024)), *_REFUSED)
    # zlib's container instead of gzip's: another header; the checksum is wrong, but comes after 256 MiB.
    yield coded("deflate of 256 MiB", "deflate", lambda: b"\x78\xda" + bomb(256)[10:], *_REFUSED)
    whole = gzip.compress(_SMALL)
    yield coded("gzip", "gzip", whole, *_READ_OR_REFUSED)
    yield coded("gzip cut off", "gzip", whole[:-9], *_REFUSED)
    yield coded("gzip cut off in its header", "gzip", whole[:5], *_REFUSED)
    yield coded("gzip with a wrong checksum", "gzip", whole[:-8] + bytes(8), *_READ_OR_REFUSED)
    yield coded("gzip and more", "gzip", whole + b"more", *_READ_OR_REFUSED)
    yield coded("two gzips", "gzip", whole + whole, *_READ_OR_REFUSED)
    yield coded("gzip that is none", "gzip", _SMALL, *_REFUSED)
    yield coded("gzip of nothing", "gzip", gzip.compress(b""), *_REFUSED)
    yield coded("no gzip at all", "gzip", b"", *_REFUSED)
    yield coded("deflate that is none", "deflate", _SMALL, *_REFUSED)
    yield coded("deflate without a header", "deflate", zlib.compress(_SMALL)[2:-4], *_READ_OR_REFUSED)
    for coding in ("br", "zstd", "compress", "identity, x", "x", "*", "gzip;q=1", "\xff", ""):
        yield coded(f"coding {coding!r}", coding, _SMALL, *_READ_OR_REFUSED)


def _large() -> Iterator[Input]:
    def text(mebibytes: int) -> bytes:
        return b'{"max_tokens": 1, "prompt": "' + b"a" * mebibytes * _MIB + b'"}'

    yield post("bodies/64 MiB", COMPLETIONS, lambda: text(64), *_REFUSED, silent=True)
    yield post("bodies/30 MiB in one word", COMPLETIONS, lambda: text(30), *_REFUSED)
    yield post("bodies/30 MiB of spaces", COMPLETIONS, lambda: b" " * 30 * _MIB + _SMALL, *_READ_OR_REFUSED)
    yield post("bodies/30 MiB of numbers", COMPLETIONS, lambda: b'{"prompt": [' + b"5," * 10 * _MIB + b"5]}", *_REFUSED)
    yield post(
        "bodies/20 MiB in an unknown field",
        COMPLETIONS,
        lambda: _SMALL[:-1] + b', "x": "' + b"a" * 20 * _MIB + b'"}',
        *_READ_OR_REFUSED,
    )
    yield post("bodies/64 MiB to a route that is not there", "/nowhere", lambda: text(64), 404, *_REFUSED, silent=True)

    def in_chunks() -> list[Piece]:
        start = head("POST", COMPLETIONS, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
        return [start, *[b"100000\r\n" + b"a" * _MIB + b"\r\n"] * 64, b"0\r\n\r\n"]

    yield Input("bodies/64 MiB in chunks", in_chunks, frozenset(_REFUSED), silent=True)


def _json() -> Iterator[Input]:
    texts: dict[str, bytes] = {
        "100,000 brackets": b"[" * 100_000,
        "a million brackets": b"[" * 1_000_000,
        "a prompt 100,000 lists deep": b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "an unknown field 100,000 lists deep": _SMALL[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "100,000 unknown fields": b"{" + b",".join(b'"f%d": 1' % i for i in range(100_000)) + b', "prompt": "a"}',
        "100,000 times the same field": b"{" + b'"prompt": "a",' * 100_000 + b'"max_tokens": 1}',
        "a field name of 1 MiB": b'{"' + b"a" * _MIB + b'": 1, "prompt": "a", "max_tokens": 1}',
        "a number of a million digits": b'{"prompt": "a", "max_tokens": ' + b"9" * 1_000_000 + b"}",
        "a fraction of a million digits": b'{"prompt": "a", "max_tokens": 1, "temperature": 0.' + b"1" * 1_000_000 + b"}",
        "a million escapes": b'{"max_tokens": 1, "prompt": "' + b"\\u0061" * 1_000_000 + b'"}',
        "half a surrogate a thousand times": b'{"max_tokens": 1, "prompt": "' + b"\\ud83d" * 1000 + b'"}',
        "UTF-16": _SMALL.decode().encode("utf-16"),
        "a byte order mark": b"\xef\xbb\xbf" + _SMALL,
        "NUL after the end": _SMALL + bytes(1000),
        "overlong UTF-8": b'{"max_tokens": 1, "prompt": "\xc0\xaf\xe0\x80\xaf"}',
        "CESU-8": b'{"max_tokens": 1, "prompt": "\xed\xa0\xbd\xed\xb8\x80"}',
        "nothing": b"",
    }
    for name, data in texts.items():
        for path in (COMPLETIONS, "/v1/chat/completions", "/tokenize"):
            yield post(f"bodies/json {name} to {path}", path, data, *_READ_OR_REFUSED, 404)
    yield Input(
        "bodies/3 kB cut into single bytes",
        lambda: [bytes([byte]) for byte in post_bytes(COMPLETIONS, _SMALL + b" " * 3000)],
        frozenset({200}),
    )
