"""A tiny OpenAI-compatible server for tests of clients: says what it is told to say, at the pace it is told."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web


@dataclass
class FakeOpenAI:
    """Runs in a thread of its own on a free port; a context manager.

    Attributes:
        words: the tokens of every answer (cut at the request's max_tokens, repeated with ignore_eos).
        delay: seconds before each token.
        fail_with: status of every answer to a POST, when not 200.
        refusal: what such an answer says.
        drops: requests whose connection is closed instead of an answer.
        port: where to listen; 0 = a free port.
        break_after: tokens after which a stream breaks with an error event.
        before: choices sent at once, before the first token; a chat's role in any case.
        after: choices sent after the last token; a chat's finish reason in any case.
        empty: tokens come without text.
        model: the name it lists.
        starting: times it says that it is not ready when asked for its models.
        startups: what it answers at /startup, one after the other; the last one stays. Empty = no such route.
        key: what it wants as a bearer's key; "" = none.
        socket: a Unix socket to listen on, too.
        bodies: the bodies of all requests, in order.
        aborted: number of streams the client left early.
    """

    words: list[str] = field(default_factory=lambda: ["Paris", " is", " the", " capital"])
    delay: float = 0.0
    fail_with: int = 200
    break_after: int | None = None
    refusal: str = "the fake refuses"
    drops: int = 0
    port: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    before: list[dict[str, Any]] = field(default_factory=list)
    after: list[dict[str, Any]] = field(default_factory=list)
    empty: bool = False
    aborted: int = 0
    active: int = 0
    peak_active: int = 0
    url: str = ""
    model: str = "fake"
    starting: int = 0
    startups: list[dict[str, Any]] = field(default_factory=list)
    key: str = ""
    socket: str = ""

    def __enter__(self) -> Self:
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._started.wait(120)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(120)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/startup", self._startup)
        app.router.add_post("/v1/completions", self._generate)
        app.router.add_post("/v1/chat/completions", self._generate)
        app.router.add_post("/v1/embeddings", self._embed)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        if self.socket:
            await web.UnixSite(runner, self.socket).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _startup(self, request: web.Request) -> web.Response:
        if not self.startups:
            raise web.HTTPNotFound
        return web.json_response(self.startups.pop(0) if len(self.startups) > 1 else self.startups[0])

    async def _models(self, request: web.Request) -> web.Response:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": {"message": "a valid API key is needed"}}, status=401)
        if self.starting:
            self.starting -= 1
            return web.json_response({"error": {"message": "the engine is starting"}}, status=503)
        return web.json_response({"object": "list", "data": [{"id": self.model, "object": "model"}]})

    async def _embed(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        if self.fail_with != 200:
            return web.json_response({"error": {"message": self.refusal, "type": "fake"}}, status=self.fail_with)
        await asyncio.sleep(self.delay)
        data = [{"index": index, "object": "embedding", "embedding": "AACAPw=="} for index in range(len(body["input"]))]
        return web.json_response({"data": data, "usage": {"prompt_tokens": 7 * len(data), "total_tokens": 7 * len(data)}})

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        if self.drops:
            self.drops -= 1
            assert request.transport is not None
            request.transport.close()
        if self.fail_with != 200:
            return web.json_response({"error": {"message": self.refusal, "type": "fake"}}, status=self.fail_with)
        self.active += 1
        self.peak_active = max(self.peak_active, self.active)
        try:
            return await self._stream(request, body)
        except (asyncio.CancelledError, ConnectionError):
            self.aborted += 1
            raise
        finally:
            self.active -= 1

    async def _send_choices(self, response: web.StreamResponse, choices: list[dict[str, Any]]) -> None:
        for choice in choices:
            await response.write(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())

    async def _stream(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        chat = "messages" in body
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or len(self.words)
        count = limit if body.get("ignore_eos") else min(limit, len(self.words))
        await response.write(b": keep-alive\n\n")
        role = [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}] if chat else []
        finish = [{"index": 0, "delta": {}, "finish_reason": "stop"}] if chat else []
        await self._send_choices(response, [*role, *self.before])
        for index in range(count):
            await asyncio.sleep(self.delay)
            if index == self.break_after:
                await response.write(b'data: {"error": {"message": "broken"}}\n\ndata: [DONE]\n\n')
                return response
            word = "" if self.empty else self.words[index % len(self.words)]
            choice = {"index": 0, "delta": {"content": word}} if chat else {"index": 0, "text": word}
            await self._send_choices(response, [choice])
        await asyncio.sleep(self.delay if self.after else 0)
        await self._send_choices(response, [*self.after, *finish])
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count}
            await response.write(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response
