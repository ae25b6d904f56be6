"""The application in this process, on a free port, with a client for it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from fake_engine import FakeEngine

from octavo.frontend.server.options import ServerOptions
from octavo.frontend.server.state import ServerState


class LocalServer:
    """A server over an engine without a core."""

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
