"""What is no HTTP, or not the HTTP that is understood: answered in the documented shape, one line of the log, then closed."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from local_server import LocalServer, ServerMaker

HANG = 20.0
"""Seconds after which a test gives up."""


@asynccontextmanager
async def connected(server: LocalServer):
    """A plain connection: (reader, writer)."""
    address = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def talk(server: LocalServer, sent: bytes) -> bytes:
    """What the server says to some bytes, until it closes."""
    async with connected(server) as (reader, writer):
        writer.write(sent)
        return await asyncio.wait_for(reader.read(), HANG)


def parsed(answer: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers (in lower case) and JSON of one answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, json.loads(body)


def check_shape(error: Any, status: int, kind: str) -> None:
    assert set(error) == {"error"}
    assert set(error["error"]) == {"message", "type", "param", "code"}
    assert (error["error"]["type"], error["error"]["code"]) == (kind, status)
    assert error["error"]["message"]


def post(path: str = "/v1/completions", body: bytes = b'{"prompt": "a"}', *headers: str, length: int | None = None) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


CLOSE = "Connection: close"

MALFORMED = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"nonsense\r\n\r\n",
    b"GET /health HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost here\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
    b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
]


@pytest.mark.parametrize("sent", MALFORMED, ids=lambda sent: repr(sent[:30]))
async def test_malformed_http_is_a_400_and_one_line(server: LocalServer, sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        status, headers, error = parsed(await talk(server, sent))
    assert status == 400
    check_shape(error, 400, "BadRequestError")
    assert headers["server"] == "octavo"
    assert headers["connection"] == "close"
    lines = [record for record in caplog.records if record.name.startswith(("octavo", "aiohttp"))]
    assert [record.levelname for record in lines] == ["INFO"]
    assert lines[0].exc_info is None
    assert "malformed 400 reason=" in lines[0].getMessage()
    assert lines[0].getMessage().isprintable()
    assert await server.status("/readyz") == 200


async def test_a_malformed_chunk_is_a_400(server: LocalServer) -> None:
    sent = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"
    status, _, error = parsed(await talk(server, sent))
    assert status == 400
    check_shape(error, 400, "BadRequestError")


@pytest.mark.parametrize("path", ["/v1/completions", "/nowhere", "/health"])
async def test_an_unknown_expectation_is_a_417(server: LocalServer, path: str) -> None:
    status, headers, error = parsed(await talk(server, post(path, b"", "Expect: miracles", CLOSE)))
    assert status == 417
    check_shape(error, 417, "ExpectationFailedError")
    assert headers["server"] == "octavo"


async def test_who_asks_first_is_told_to_go_on_only_if_he_may(make_server: ServerMaker) -> None:
    server = await make_server(api_key=["right"], max_body_size=100)
    body = b'{"prompt": "a"}'
    asking = ("Expect: 100-continue", CLOSE)
    async with connected(server) as (reader, writer):
        writer.write(post("/tokenize", b"", "Authorization: Bearer right", *asking, length=len(body)))
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HANG) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await asyncio.wait_for(reader.read(), HANG)).startswith(b"HTTP/1.1 200 ")
    for headers, status in ((asking, 401), (("Authorization: Bearer right", *asking), 413)):
        answer = await talk(server, post("/tokenize", b"", *headers, length=1000))
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer


async def test_nobody_uploads_what_is_refused(make_server: ServerMaker) -> None:
    """The answer comes before the body, and the connection is closed though the body never ends."""
    server = await make_server(api_key=["right"], max_body_size=1000)
    for headers, length, status in (((), 900, 401), (("Authorization: Bearer right",), 10**9, 413)):
        answer = await talk(server, post("/tokenize", b"{", *headers, length=length))
        code, sent, error = parsed(answer)
        assert (code, sent["connection"]) == (status, "close")
        assert error["error"]["message"]


async def test_a_body_that_does_not_come_is_a_408(make_server: ServerMaker) -> None:
    server = await make_server(body_timeout=0.2)
    for sent in (
        post(length=100),
        b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    ):
        status, headers, error = parsed(await talk(server, sent))
        assert (status, headers["connection"]) == (408, "close")
        check_shape(error, 408, "RequestTimeoutError")
        assert "--body-timeout" in error["error"]["message"]
    assert server.state.body_bytes == 0


async def test_headers_that_do_not_come_end_the_connection(make_server: ServerMaker) -> None:
    server = await make_server(keep_alive_timeout=0.2)
    for sent in (b"", b"POST /tokenize HTTP/1.1\r\nHost: he"):
        assert await talk(server, sent) == b""
    async with connected(server) as (reader, writer):  # also after a request that was answered
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HT")
        assert (await asyncio.wait_for(reader.read(), HANG)).count(b"HTTP/1.1 200") == 1


async def test_a_client_that_leaves_in_mid_body_leaves_nothing_behind(server: LocalServer) -> None:
    async with connected(server) as (_, writer):
        writer.write(post(body=b'{"prompt": "a', length=1000))
        await writer.drain()
        await until(lambda: server.state.body_bytes > 0)
    await until(lambda: server.state.body_bytes == 0)
    assert server.engine.calls == []
    assert server.state.in_flight == 0


async def test_an_unknown_transfer_encoding_is_a_501(server: LocalServer) -> None:
    head = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
    status, headers, error = parsed(await talk(server, head + b'e\r\n{"prompt":"a"}\r\n0\r\n\r\n'))
    assert (status, headers["connection"]) == (501, "close")
    check_shape(error, 501, "NotImplementedError")


async def test_an_upgrade_that_is_not_offered_is_ignored(server: LocalServer) -> None:
    upgrade = ("Connection: Upgrade", "Upgrade: websocket")
    answer = await talk(server, post("/tokenize", b'{"prompt": "a"}', *upgrade) + post("/tokenize", b"{}", CLOSE))
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 400]


@pytest.mark.parametrize("line", ["CONNECT here:80", "OPTIONS *", "TRACE /nowhere", "GET /%ff%zz", "GET /v1/models/%0a%00"])
async def test_odd_targets_are_not_found(server: LocalServer, line: str) -> None:
    status, _, error = parsed(await talk(server, f"{line} HTTP/1.1\r\nHost: localhost\r\n{CLOSE}\r\n\r\n".encode()))
    assert status == 404
    check_shape(error, 404, "NotFoundError")


async def test_a_client_that_is_gone_when_it_is_told_to_go_on(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is wrong, so nothing is an error in the log."""
    with caplog.at_level(logging.INFO):
        for _ in range(20):
            async with connected(server) as (_, writer):
                writer.write(post("/tokenize", b"", "Expect: 100-continue", length=100))
                writer.transport.abort()
        await until(lambda: server.state.body_bytes == 0)
        assert (await server.post("/tokenize", {"prompt": "a"}))[0] == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_requests_behind_each_other_on_one_connection(server: LocalServer) -> None:
    refused = post("/tokenize", b'{"prompt": 5}')
    answer = await talk(server, post("/tokenize") + refused + post("/nowhere") + post("/tokenize", b'{"prompt": "b"}', CLOSE))
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 400, 404, 200]


async def until(condition: Any) -> None:
    async with asyncio.timeout(HANG):
        while not condition():  # noqa: ASYNC110  (nobody announces it)
            await asyncio.sleep(0.01)
