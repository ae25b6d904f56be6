"""A server in this process, over an engine without a core."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from fake_engine import FakeEngine

from octavo.frontend.metrics import PrometheusStats
from octavo.frontend.server.app import make_app
from octavo.frontend.server.options import ServerOptions
from octavo.frontend.server.state import ServerState


class LocalServer:
    """The application on a free port, and a client for it."""

    def __init__(self, engine: FakeEngine, options: ServerOptions, url: str, state: ServerState, client: aiohttp.ClientSession):
        self.engine, self.options, self.url, self.state, self.client = engine, options, url, state, client

    async def post(self, path: str, body: Any, **kwargs: Any) -> tuple[int, Any]:
        """Status and JSON of a POST; a str or bytes body is sent as it is."""
        data = body if isinstance(body, bytes | str) else json.dumps(body)
        headers = {"Content-Type": "application/json", **kwargs.pop("headers", {})}
        async with self.client.post(self.url + path, data=data, headers=headers, **kwargs) as response:
            return response.status, await response.json(content_type=None)

    async def events(self, path: str, body: dict[str, Any]) -> list[Any]:
        """Decoded events of a stream, without the closing [DONE], which must be there."""
        async with self.client.post(self.url + path, json={**body, "stream": True}) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == "text/event-stream"
            text = (await response.read()).decode()
        assert text.endswith("data: [DONE]\n\n")
        lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line and not line.startswith(":")]
        return [json.loads(line) for line in lines[:-1]]

    async def status(self, path: str, **kwargs: Any) -> int:
        async with self.client.get(self.url + path, **kwargs) as response:
            return response.status


ServerMaker = Callable[..., Awaitable[LocalServer]]


@pytest.fixture
def engine(tiny_model_dir: Path) -> FakeEngine:
    return FakeEngine(tiny_model_dir)


@pytest.fixture
async def make_server(engine: FakeEngine) -> AsyncIterator[ServerMaker]:
    """`await make_server(api_key=["k"], ...)`; with started=False the engine is not there yet."""
    async with AsyncExitStack() as stack:

        async def make(started: bool = True, **options: Any) -> LocalServer:
            chosen = ServerOptions(**options)
            chosen.check()
            state = ServerState(chosen, PrometheusStats())
            if started:
                state.started(engine)  # type: ignore[arg-type]
            runner = web.AppRunner(make_app(state), handler_cancellation=True, access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0]
            client = await stack.enter_async_context(aiohttp.ClientSession())
            return LocalServer(engine, chosen, f"http://{host}:{port}", state, client)

        yield make


@pytest.fixture
async def server(make_server: ServerMaker) -> LocalServer:
    return await make_server()
