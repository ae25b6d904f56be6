"""The forms a prompt may take.

A prompt is a string, a list of token ids, or one of the dicts below. The dicts leave room for embeddings and media,
which later versions add as further optional keys.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class TextPrompt(TypedDict):
    """A prompt as text, to be tokenized by the engine."""

    prompt: str
    cache_salt: NotRequired[str]
    """Mixed into the first block's hash: requests with different salts never share cached blocks."""


class TokensPrompt(TypedDict):
    """A prompt already tokenized."""

    prompt_token_ids: list[int]
    prompt: NotRequired[str]
    """The text the ids came from; only echoed back in outputs."""
    token_type_ids: NotRequired[list[int]]
    """Of each token which of a pair's texts it is of, for pooling models that are told."""
    cache_salt: NotRequired[str]


class DataPrompt(TypedDict):
    """What an IO Processor plugin makes prompts of; goes to `encode` or `generate` by itself, not in a list."""

    data: Any
    data_format: NotRequired[str]
    io_processor: NotRequired[str]
    """Which of the engine's plugins; without it the default."""


PromptType = str | list[int] | TextPrompt | TokensPrompt
