"""The forms a prompt may take.

A prompt is a string, a list of token ids, or one of the dicts below. The dicts leave room for embeddings and media,
which later versions add as further optional keys.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict


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


PromptType = str | list[int] | TextPrompt | TokensPrompt
