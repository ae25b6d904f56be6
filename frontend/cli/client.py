"""A small client of the OpenAI API for the terminal commands: streaming answers, errors in plain words."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from octavo.errors import OctavoError
from octavo.frontend.cli.address import Address
from octavo.frontend.cli.reaching import make_connector, why_unreachable
from octavo.frontend.cli.sse import DONE, SSEDecoder

CONNECT_SECONDS = 10.0


class ClientError(OctavoError):
    """The server cannot be reached, or it refused.

    Attributes:
        status: what it answered, None when it did not.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Pace:
    """How fast the last answer came.

    Attributes:
        tokens: as the server counts them; the chunks with text where it does not say.
        first_token: seconds from the question to the first token.
        seconds: from the first token to the last.
        finish_reason: as the server gave it, "" until then.
    """

    tokens: int = 0
    first_token: float = 0.0
    seconds: float = 0.0
    finish_reason: str = ""

    @property
    def rate(self) -> float | None:
        """Tokens a second, None for an answer too short to tell."""
        return (self.tokens - 1) / self.seconds if self.tokens > 1 and self.seconds > 0 else None


class Client:
    """Talks to one server, inside one event loop.

    Attributes:
        model: what requests name; found out from /v1/models when not given.
        pace: of the last answer, also while it comes.
    """

    def __init__(self, address: Address, model: str | None, api_key: str | None, cacert: str | None = None) -> None:
        self.address = address
        self.model = model
        self.pace = Pace()
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        # A slow model may think as long as it likes; only connecting has a limit.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        self._session = aiohttp.ClientSession(connector=make_connector(address, cacert), headers=headers, timeout=timeout)

    async def close(self) -> None:
        await self._session.close()

    async def startup(self) -> dict[str, Any] | None:
        """What an Octavo says of its own start (`GET /startup`); None from anybody else, and from nobody."""
        try:
            async with self._session.get(f"{self.address.root}/startup") as response:
                answer = msgspec.json.decode(await response.read())
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError):
            return None
        return answer if isinstance(answer, dict) and "phase" in answer else None

    async def models(self) -> list[dict[str, Any]]:
        """What the server lists.

        Raises:
            ClientError: no server, or one that lists no models.
        """
        try:
            async with self._session.get(f"{self.address.api}/models") as response:
                listed = msgspec.json.decode(await _checked(response))
            return [model for model in listed["data"] if isinstance(model["id"], str)]
        except (aiohttp.ClientError, OSError) as error:
            raise ClientError(why_unreachable(self.address, error)) from None
        except (msgspec.DecodeError, KeyError, TypeError):
            raise ClientError(f"{self.address.api}/models lists no models; is this an OpenAI-compatible server?") from None

    async def connect(self) -> str:
        """Find the model's name; returns it.

        Raises:
            ClientError: no server, or one without a model.
        """
        if self.model is None:
            listed = await self.models()
            if not listed:
                raise ClientError(f"{self.address.api}/models names no model; give one with --model-name")
            self.model = str(listed[0]["id"])
        return self.model

    async def stream_chat(self, messages: list[dict[str, str]], options: dict[str, Any]) -> AsyncIterator[str]:
        """Text of the answer to a conversation, as it comes."""
        body = {"model": await self.connect(), "messages": messages, **options}
        async for choice in self._stream("/chat/completions", body):
            yield choice.get("delta", {}).get("content") or ""

    async def stream_completion(self, prompt: str, options: dict[str, Any]) -> AsyncIterator[str]:
        """Text that continues a prompt, as it comes."""
        body = {"model": await self.connect(), "prompt": prompt, **options}
        async for choice in self._stream("/completions", body):
            yield choice.get("text") or ""

    async def _stream(self, path: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        decoder, clock = SSEDecoder(), _Clock()
        self.pace = clock.pace
        try:
            async with self._session.post(self.address.api + path, json=body) as response:
                if response.status != 200:
                    await _checked(response)
                async for data in response.content.iter_any():
                    for event in decoder.feed(data):
                        if event != DONE:
                            for choice in clock.choices(_decoded(event)):
                                yield choice
        except (aiohttp.ClientError, OSError) as error:
            raise ClientError(why_unreachable(self.address, error)) from None


class _Clock:
    """Times an answer, and counts its tokens."""

    def __init__(self) -> None:
        self.pace = Pace()
        self._sent = time.monotonic()
        self._first = 0.0

    def choices(self, chunk: dict[str, Any]) -> list[dict[str, Any]]:
        """The choices of a chunk, which has come just now."""
        choices: list[dict[str, Any]] = chunk.get("choices") or []
        if any(choice.get("text") or (choice.get("delta") or {}).get("content") for choice in choices):
            now = time.monotonic()
            self._first = self._first or now
            self.pace.tokens += 1
            self.pace.first_token, self.pace.seconds = self._first - self._sent, now - self._first
        for choice in choices:
            self.pace.finish_reason = choice.get("finish_reason") or self.pace.finish_reason
        usage = chunk.get("usage") or {}
        if isinstance(usage.get("completion_tokens"), int):
            self.pace.tokens = usage["completion_tokens"]
        return choices


def _decoded(event: bytes) -> dict[str, Any]:
    try:
        chunk = msgspec.json.decode(event)
    except msgspec.DecodeError:
        raise ClientError(f"the server sent what is not JSON: {event[:200]!r}") from None
    if not isinstance(chunk, dict):
        raise ClientError(f"the server sent what is no chunk of an answer: {event[:200]!r}")
    if "error" in chunk:
        raise ClientError(_message(chunk))
    return chunk


async def _checked(response: aiohttp.ClientResponse) -> bytes:
    """The body of an answer that is not an error."""
    body = await response.read()
    if response.status == 200:
        return body
    try:
        reason = _message(msgspec.json.decode(body))
    except (msgspec.DecodeError, AttributeError):
        reason = body[:200].decode(errors="replace")
    raise ClientError(f"the server answered {response.status}: {reason}", response.status)


def _message(answer: dict[str, Any]) -> str:
    error = answer.get("error", answer)
    return str(error.get("message", error) if isinstance(error, dict) else error)
