"""Bodies that come packed, and bodies that are larger than they look."""

from __future__ import annotations

import gzip
import json
import random
import tracemalloc
import zlib
from typing import Any

import pytest
from local_server import LocalServer, ServerMaker

from octavo.frontend.server.body_reader import unpacked
from octavo.frontend.server.errors import ApiError, SchemaError

TEXT = json.dumps({"prompt": "Hello wörld " * 20}).encode()
LIMIT = 1_000_000


async def send(server: LocalServer, data: bytes, encoding: str, **headers: str) -> tuple[int, Any]:
    return await server.post("/tokenize", data, headers={"Content-Encoding": encoding, **headers})


def deflated(data: bytes) -> bytes:
    return zlib.compress(data)


async def test_a_packed_body_is_the_same_body(server: LocalServer) -> None:
    plain = await server.post("/tokenize", TEXT)
    assert plain[0] == 200
    halves = gzip.compress(TEXT[:50]) + gzip.compress(TEXT[50:])
    for data, encoding in (
        (gzip.compress(TEXT), "gzip"),
        (gzip.compress(TEXT), "GZip"),
        (gzip.compress(TEXT), "x-gzip"),
        (halves, "gzip"),
        (deflated(TEXT), "deflate"),
        (TEXT, "identity"),
    ):
        assert await send(server, data, encoding) == plain, encoding


async def test_a_broken_packed_body_is_a_400(server: LocalServer) -> None:
    good = gzip.compress(TEXT)
    for data, encoding in (
        (good[:-4], "gzip"),
        (good[:30], "gzip"),
        (b"", "gzip"),
        (TEXT, "gzip"),
        (good[:20] + b"\0\0\0" + good[23:], "gzip"),
        (good[:-8] + b"\0\0\0\0" + good[-4:], "gzip"),
        (good + b"trailing", "gzip"),
        (good + b"\0", "gzip"),
        (deflated(TEXT)[:-1], "deflate"),
        (deflated(TEXT) + b"x", "deflate"),
        (deflated(TEXT), "gzip"),
    ):
        status, answer = await send(server, data, encoding)
        assert (status, answer["error"]["type"]) == (400, "BadRequestError"), (data[:40], answer)


async def test_an_unknown_encoding_is_a_415(server: LocalServer) -> None:
    for encoding in ("br", "zstd", "compress", "gzip, gzip", "x" * 300, "gzip;q=1"):
        headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
        async with server.client.post(server.url + "/tokenize", data=TEXT, headers=headers) as response:
            assert response.status == 415
            assert response.headers["Accept-Encoding"] == "gzip, deflate"
            assert (await response.json())["error"]["type"] == "UnsupportedMediaTypeError"


async def test_what_unpacks_to_more_than_a_body_may_have_is_a_413(make_server: ServerMaker) -> None:
    server = await make_server(max_body_size=LIMIT)
    bomb = gzip.compress(b" " * (100 * LIMIT))
    assert len(bomb) < LIMIT
    status, answer = await send(server, bomb, "gzip")
    assert (status, answer["error"]["type"]) == (413, "RequestTooLargeError")
    assert (await send(server, gzip.compress(TEXT), "gzip"))[0] == 200


async def test_without_a_key_nothing_is_unpacked(make_server: ServerMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.frontend.server.body_reader.unpacked", lambda *_: pytest.fail("unpacked"))
    server = await make_server(api_key=["right"])
    assert (await send(server, gzip.compress(TEXT), "gzip"))[0] == 401


def test_unpacking_takes_no_more_memory_than_the_limit() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(ApiError, match="larger than 1000000 bytes"):
            unpacked(bomb, "gzip", LIMIT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * LIMIT


def test_a_body_of_exactly_the_limit_is_fine() -> None:
    data = random.Random(1).randbytes(300_000)
    assert unpacked(gzip.compress(data), "gzip", len(data)) == data
    with pytest.raises(ApiError):
        unpacked(gzip.compress(data), "gzip", len(data) - 1)
    parts = b"".join(gzip.compress(data[i : i + 1000]) for i in range(0, len(data), 1000))
    assert unpacked(parts, "gzip", len(data)) == data


def test_countless_empty_parts_are_refused() -> None:
    with pytest.raises(SchemaError, match="behind its end"):
        unpacked(gzip.compress(b"") * 100_000, "gzip", LIMIT)


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt": [' + b"[]," * 300_000 + b"[]]}",
        b'{"messages": [' + b"{}," * 300_000 + b"{}]}",
        b"{" + b",".join(b'"%d":1' % i for i in range(300_000)) + b"}",
        b'{"prompt": [' + b"1," * 5_000_000 + b"1]}",
    ],
    ids=["lists", "objects", "fields", "values"],
)
async def test_a_body_of_countless_values_is_a_413(server: LocalServer, body: bytes) -> None:
    for path in ("/v1/completions", "/v1/chat/completions"):
        status, answer = await server.post(path, body)
        assert (status, answer["error"]["type"]) == (413, "RequestTooLargeError")


async def test_only_so_many_large_bodies_are_received_at_once(make_server: ServerMaker) -> None:
    server = await make_server(max_body_size=1000)
    server.state.body_bytes = 16_000  # as if others were sending
    status, answer = await server.post("/tokenize", {"prompt": "a"})
    assert (status, answer["error"]["code"]) == (429, "rate_limit_exceeded")
    assert server.state.body_bytes == 16_000
    server.state.body_bytes = 0
    assert (await server.post("/tokenize", {"prompt": "a"}))[0] == 200


async def test_a_large_body_is_read_like_a_small_one(server: LocalServer) -> None:
    body = {"prompt": ["Hello there"] * 500, "unknown": "x" * 100_000, "temprature": 1}
    async with server.client.post(server.url + "/v1/completions", json=body) as response:
        assert response.status == 200
        assert response.headers["X-Octavo-Warning"] == "unknown fields: unknown, temprature"
        assert len((await response.json())["choices"]) == 500
