"""A document in overlapping chunks of tokens; its embedding is the mean of theirs, each with the weight of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from octavo import PoolingParams, TokensPrompt
from octavo.plugins.io_processor import IOProcessor


class Document(msgspec.Struct, forbid_unknown_fields=True):
    """What clients send."""

    text: str
    chunk_tokens: Annotated[int, msgspec.Meta(ge=2)] | None = None
    """Most tokens of a chunk, the tokenizer's special ones included; None = as many as the model takes."""
    overlap: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Tokens that a chunk shares with the one before."""


class Embedding(msgspec.Struct):
    """What they get."""

    embedding: list[float]
    """Of length 1."""
    num_chunks: int
    num_tokens: int
    """That the model read, repeated ones and special ones included."""


class LongDocumentProcessor(IOProcessor[Document, Embedding]):
    """Embeds documents of any length."""

    def __init__(self, vllm_config: Any, renderer: Any) -> None:
        super().__init__(vllm_config, renderer)
        self._longest = vllm_config.model_config.max_model_len
        self._tokenizer = renderer.get_tokenizer()
        whole, bare = self._ids("a", special=True), self._ids("a", special=False)
        start = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
        self._before, self._after = whole[:start], whole[start + len(bare) :]

    def pre_process(self, prompt: Document, request_id: str | None = None, **kwargs: Any) -> list[TokensPrompt]:
        room = min(prompt.chunk_tokens or self._longest, self._longest) - len(self._before) - len(self._after)
        step = room - prompt.overlap
        if step < 1:
            raise ValueError(f"overlap must be less than the {room} tokens of a chunk, got {prompt.overlap}")
        ids = self._ids(prompt.text, special=False)
        if not ids:
            raise ValueError("text must not be empty")
        starts = range(0, max(1, len(ids) - prompt.overlap), step)
        chunks = (ids[start : start + room] for start in starts)
        return [TokensPrompt(prompt_token_ids=[*self._before, *chunk, *self._after]) for chunk in chunks]

    def validate_or_generate_params(self, params: PoolingParams | None = None) -> PoolingParams:
        return params or PoolingParams(task="embed")

    def post_process(self, model_output: Sequence[Any], request_id: str | None = None, **kwargs: Any) -> Embedding:
        sizes = [len(output.prompt_token_ids) for output in model_output]
        mean = np.average([output.outputs.data for output in model_output], axis=0, weights=sizes)
        return Embedding((mean / max(float(np.linalg.norm(mean)), 1e-12)).tolist(), len(sizes), sum(sizes))

    def _ids(self, text: str, *, special: bool) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])
