"""Requests for embeddings, several texts in each, for the load tester."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from octavo.tools.client import RequestResult, Target
from octavo.tools.datasets import BenchRequest

BACKEND = "openai-embeddings"


@dataclass(frozen=True, slots=True)
class EmbeddingRequest(BenchRequest):
    """One request; `token_ids` are those of all its texts.

    Attributes:
        inputs: texts, or token ids of each.
    """

    inputs: tuple[str | list[int], ...] = ()


class _Usage(msgspec.Struct):
    prompt_tokens: int


class _Answer(msgspec.Struct):
    data: list[msgspec.Raw]
    usage: _Usage | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class EmbeddingTarget(Target):
    """An endpoint for embeddings. Vectors are asked for as OpenAI's client asks for them, in base64."""

    def body(self, request: BenchRequest) -> dict[str, Any]:
        """The JSON body for one request."""
        inputs = request.inputs if isinstance(request, EmbeddingRequest) else (_input(request),)
        return {"model": self.model, "input": inputs, "encoding_format": "base64", **self.extra_body}

    async def receive(self, response: aiohttp.ClientResponse, result: RequestResult) -> None:
        """Read an answer. Tokens are counted by the server, special ones included.

        Raises:
            ValueError: it is no such answer.
        """
        data = await response.read()
        result.ttft = result.latency = time.perf_counter() - result.sent
        try:
            answer = _decode(data)
        except msgspec.MsgspecError as error:
            raise ValueError(f"no answer of embeddings: {error}") from None
        result.num_texts, result.output_len = len(answer.data), 0
        if answer.usage is not None:
            result.prompt_len = answer.usage.prompt_tokens


def batches(requests: Sequence[BenchRequest], size: int) -> list[BenchRequest]:
    """The texts of a data set in requests of `size` each; the last one may have fewer."""
    made: list[BenchRequest] = []
    for begin in range(0, len(requests), size):
        some = requests[begin : begin + size]
        ids = [token for one in some for token in one.token_ids]
        made.append(EmbeddingRequest(None, ids, 0, tuple(map(_input, some))))
    return made


def _input(request: BenchRequest) -> str | list[int]:
    return request.token_ids if request.prompt is None else request.prompt
