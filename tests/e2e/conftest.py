"""Shared by the tests of the HTTP server: a server in this process, over an engine without a core."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

sys.path.insert(0, os.path.dirname(__file__))

from fake_engine import FakeEngine
from local_server import LocalServer, ServerMaker

from octavo.frontend.metrics import PrometheusStats
from octavo.frontend.server.app import make_app
from octavo.frontend.server.connection import Runner
from octavo.frontend.server.options import ServerOptions
from octavo.frontend.server.state import ServerState


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
            runner = Runner(make_app(state))
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
