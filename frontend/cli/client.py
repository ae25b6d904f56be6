"""A small client of the OpenAI API for the terminal commands: streaming answers, errors in plain words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec

from octavo.errors import OctavoError
from octavo.frontend.cli.sse import DONE, SSEDecoder


class ClientError(OctavoError):
    """The server cannot be reached, or it refused."""


class Client:
    """Talks to the server at `base_url` (with /v1), inside one event loop.

    Attributes:
        model: what requests name; found out from /v1/models when not given.
    """

    def __init__(self, base_url: str, model: str | None, api_key: str | None) -> None:
        self.base_url = base_url.rstrip("/")
        self.model = model
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        # A slow model may think as long as it likes; only connecting has a limit.
        self._session = aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=None, sock_connect=10))

    async def close(self) -> None:
        await self._session.close()

    async def connect(self) -> str:
        """Find the model's name; returns it.

        Raises:
            ClientError: no server, or one without a model.
        """
        if self.model is None:
            try:
                async with self._session.get(f"{self.base_url}/models") as response:
                    models = msgspec.json.decode(await _checked(response))
                self.model = str(models["data"][0]["id"])
            except (aiohttp.ClientError, TimeoutError) as error:
                raise self._unreachable(error) from None
            except (msgspec.DecodeError, KeyError, IndexError, TypeError):
                raise ClientError(f"{self.base_url}/models names no model; give one with --model-name") from None
        return self.model

    async def stream_chat(self, messages: list[dict[str, str]], options: dict[str, Any]) -> AsyncIterator[str]:
        """Text of the answer to a conversation, as it comes."""
        body = {"model": await self.connect(), "messages": messages, "stream": True, **options}
        async for choice in self._stream("/chat/completions", body):
            yield choice.get("delta", {}).get("content") or ""

    async def stream_completion(self, prompt: str, options: dict[str, Any]) -> AsyncIterator[str]:
        """Text that continues a prompt, as it comes."""
        body = {"model": await self.connect(), "prompt": prompt, "stream": True, **options}
        async for choice in self._stream("/completions", body):
            yield choice.get("text") or ""

    async def _stream(self, path: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        decoder = SSEDecoder()
        try:
            async with self._session.post(self.base_url + path, json=body) as response:
                if response.status != 200:
                    await _checked(response)
                async for data in response.content.iter_any():
                    for event in decoder.feed(data):
                        if event != DONE:
                            for choice in _choices(event):
                                yield choice
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> ClientError:
        return ClientError(f"no answer from {self.base_url} ({error or type(error).__name__}); start one with: octavo serve")


def _choices(event: bytes) -> list[dict[str, Any]]:
    try:
        chunk = msgspec.json.decode(event)
    except msgspec.DecodeError:
        raise ClientError(f"the server sent what is not JSON: {event[:200]!r}") from None
    if "error" in chunk:
        raise ClientError(_message(chunk))
    choices: list[dict[str, Any]] = chunk.get("choices") or []
    return choices


async def _checked(response: aiohttp.ClientResponse) -> bytes:
    """The body of an answer that is not an error."""
    body = await response.read()
    if response.status == 200:
        return body
    try:
        reason = _message(msgspec.json.decode(body))
    except (msgspec.DecodeError, AttributeError):
        reason = body[:200].decode(errors="replace")
    raise ClientError(f"the server answered {response.status}: {reason}")


def _message(answer: dict[str, Any]) -> str:
    error = answer.get("error", answer)
    return str(error.get("message", error) if isinstance(error, dict) else error)
