"""One request to an OpenAI-compatible server, timed: streamed, or for embeddings.

Times are read when bytes arrive, before they are parsed, so that what the client itself costs does not count as the
server's. All of a read's events carry that read's time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

from octavo.frontend.cli.address import Address
from octavo.frontend.cli.reaching import make_connector
from octavo.frontend.cli.sse import DONE, SSEDecoder
from octavo.tools.datasets import BenchRequest

ENDPOINTS = {
    "openai": "/v1/completions",
    "vllm": "/v1/completions",
    "openai-chat": "/v1/chat/completions",
    "openai-embeddings": "/v1/embeddings",
}

_CLOSED = aiohttp.ServerDisconnectedError.__name__


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None


_NOTHING = _Delta()


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None
    token_ids: list[Any] | None = None

    def written(self) -> str:
        """The chunk's text, of whichever kind."""
        delta = self.delta or _NOTHING
        return self.text or delta.content or delta.reasoning or delta.reasoning_content or delta.refusal or ""

    def has_token(self) -> bool:
        """Whether it brings a token, and not only a role, a finish reason or an empty text."""
        return bool(self.written() or self.token_ids or (self.delta is not None and self.delta.tool_calls))


class _Usage(msgspec.Struct):
    completion_tokens: int | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


@dataclass(frozen=True)
class Target:
    """Where requests go and what they have in common."""

    url: str
    chat: bool
    model: str
    headers: dict[str, str] = field(default_factory=dict)
    extra_body: dict[str, Any] = field(default_factory=dict)
    ignore_eos: bool = False

    def body(self, request: BenchRequest) -> dict[str, Any]:
        """The JSON body for one request."""
        body: dict[str, Any] = {"model": self.model, "stream": True, "stream_options": {"include_usage": True}}
        if self.chat:
            body["messages"] = [{"role": "user", "content": request.prompt}]
            body["max_completion_tokens"] = request.output_len
        else:
            body["prompt"] = request.token_ids if request.prompt is None else request.prompt
            body["max_tokens"] = request.output_len
        if self.ignore_eos:
            body["ignore_eos"] = True
        return {**body, **self.extra_body}

    async def receive(self, response: aiohttp.ClientResponse, result: RequestResult) -> None:
        """Read an answer to its end, and note when what came.

        Raises:
            ValueError: it is no such answer.
        """
        timeline = _Timeline(result)
        await _read(response, timeline)
        timeline.finish()


@dataclass(slots=True)
class RequestResult:
    """What became of one request. Times in seconds, `sent` and `scheduled` on the clock of `time.perf_counter`.

    Attributes:
        scheduled: when the arrival process wanted it sent.
        sent: when it was sent (later, under a concurrency limit).
        ttft: first chunk that brings a token minus `sent`. Chunks with only a role, a finish reason, usage or empty text do not
            count, unless the whole answer is empty.
        itl: gaps between successive chunks that bring tokens, however many each brings.
        latency: last such chunk minus `sent`.
        output_len: tokens, as the server counts them, or -1 when it does not say.
        num_texts: texts that were embedded.
    """

    prompt_len: int
    scheduled: float = 0.0
    sent: float = 0.0
    ttft: float = 0.0
    itl: list[float] = field(default_factory=list)
    latency: float = 0.0
    output_len: int = -1
    num_texts: int = 0
    text: str = ""
    error: str = ""

    @property
    def success(self) -> bool:
        return not self.error

    def chunk_times(self) -> list[float]:
        """When each chunk came."""
        times = [self.sent + self.ttft]
        for gap in self.itl:
            times.append(times[-1] + gap)
        return times


class _Timeline:
    """Collects the chunks of one answer."""

    def __init__(self, result: RequestResult) -> None:
        self._result = result
        self._last = 0.0
        self._last_empty = 0.0
        self._parts: list[str] = []

    def event(self, data: bytes, now: float) -> None:
        if data == DONE:
            return
        chunk = _decode_chunk(data)
        if chunk.error is not None:
            raise ValueError(f"error in the stream: {chunk.error}")
        if chunk.choices:
            self._choices(chunk.choices, now)
        if chunk.usage is not None and chunk.usage.completion_tokens is not None:
            self._result.output_len = chunk.usage.completion_tokens

    def _choices(self, choices: Sequence[_Choice], now: float) -> None:
        if not any(choice.has_token() for choice in choices):
            self._last_empty = now
            return
        if self._last:
            self._result.itl.append(now - self._last)
        else:
            self._result.ttft = now - self._result.sent
        self._last = now
        self._parts += [choice.written() for choice in choices]

    def finish(self) -> None:
        if not self._last and self._result.output_len > 0:  # tokens without text, such as an end of turn
            self._last = self._last_empty
            self._result.ttft = self._last - self._result.sent
        if not self._last:
            raise ValueError("the stream ended without a token")
        self._result.latency = self._last - self._result.sent
        self._result.text = "".join(self._parts)


async def send(session: aiohttp.ClientSession, target: Target, request: BenchRequest) -> RequestResult:
    """Send one request and time its answer; a failure is told in `error`, not raised.

    A connection kept from an earlier request may be closed by the server at the moment it is used again. Such a request is
    sent once more, and timed from then.
    """
    result = await _send_once(session, target, request)
    return await _send_once(session, target, request) if result.error.startswith(_CLOSED) else result


async def _send_once(session: aiohttp.ClientSession, target: Target, request: BenchRequest) -> RequestResult:
    result = RequestResult(prompt_len=request.prompt_len)
    body = msgspec.json.encode(target.body(request))
    headers = {"Content-Type": "application/json", **target.headers}
    result.sent = time.perf_counter()
    try:
        async with session.post(target.url, data=body, headers=headers) as response:
            if response.status != 200:
                result.error = f"{response.status} {response.reason}: {(await response.text())[:300]}"
                return result
            await target.receive(response, result)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        result.error = f"{type(error).__name__}: {error}"
    return result


async def _read(response: aiohttp.ClientResponse, timeline: _Timeline) -> None:
    decoder = SSEDecoder()
    async for data in response.content.iter_any():
        now = time.perf_counter()
        for event in decoder.feed(data):
            timeline.event(event, now)
    now = time.perf_counter()
    for event in decoder.close():
        timeline.event(event, now)


def make_session(
    timeout: float | None = None, address: Address | None = None, cacert: str | None = None
) -> aiohttp.ClientSession:
    """A session without limits of its own on connections; see `make_connector`."""
    connector = make_connector(address, cacert, limit=0)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=timeout), read_bufsize=1 << 20)


async def server_version(session: aiohttp.ClientSession, base_url: str, headers: dict[str, str]) -> str:
    """What the server says of its version; not every server does."""
    try:
        async with session.get(f"{base_url}/version", headers=headers) as response:
            return f"version {msgspec.json.decode(await response.read(), type=_Version).version}"
    except (aiohttp.ClientError, OSError, msgspec.MsgspecError):
        return "version not told"


class _Version(msgspec.Struct):
    version: str


async def list_models(session: aiohttp.ClientSession, base_url: str, headers: dict[str, str]) -> list[dict[str, Any]]:
    """The server's models.

    Raises:
        aiohttp.ClientError: no such server, or an error from it.
    """
    async with session.get(f"{base_url}/v1/models", headers=headers) as response:
        response.raise_for_status()
        models: list[dict[str, Any]] = msgspec.json.decode(await response.read())["data"]
        return models
