"""Whether `octavo run` finds a server that it can use, and what it makes of what else may listen there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from octavo.frontend.cli import found_server
from octavo.frontend.cli.found_server import find_server

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def listening(models: Handler) -> AsyncIterator[int]:
    """The port of a server that lists models so and knows nothing of starting."""
    app = web.Application()
    app.router.add_get("/v1/models", models)
    async with TestServer(app) as server:
        assert server.port is not None
        yield server.port


def cards(*names: str) -> Handler:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": [{"id": name, "root": f"some/{name}"} for name in names]})

    return answer


@pytest.mark.parametrize(("wanted", "found"), [(None, "one"), ("two", "two"), ("some/two", "two"), ("three", None)])
async def test_the_model_decides(wanted: str | None, found: str | None) -> None:
    async with listening(cards("one", "two")) as port:
        client = await find_server(port, wanted, None)
    if client is None:
        assert found is None
    else:
        assert client.model == found
        await client.close()


@pytest.mark.parametrize("status", [401, 403])
async def test_a_server_that_wants_a_key_is_named(status: int, capsys: pytest.CaptureFixture[str]) -> None:
    async def refuse(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no"}}, status=status)

    async with listening(refuse) as port:
        assert await find_server(port, None, None) is None
    assert f"the server on port {port} wants a key (--api-key, OCTAVO_API_KEY)" in capsys.readouterr().err


async def test_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert await find_server(taken.getsockname()[1], None, None) is None
    assert capsys.readouterr().err == ""


async def test_who_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found_server, "_LOOK_SECONDS", 0.2)

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        assert await asyncio.wait_for(find_server(port, None, None), 20) is None
    finally:
        server.close()


async def test_something_else_than_models(capsys: pytest.CaptureFixture[str]) -> None:
    async def page(_request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>a router's page</html>", content_type="text/html")

    async with listening(page) as port:
        assert await find_server(port, None, None) is None
    assert capsys.readouterr().err == ""
