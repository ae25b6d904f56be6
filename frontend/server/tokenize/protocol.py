"""`/tokenize` and `/detokenize`."""

from __future__ import annotations

from typing import Any

import msgspec

from octavo.frontend.server.body import BodyType, Refused
from octavo.frontend.server.fields import ReasoningEffort
from octavo.params import Count


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """A text, or a conversation, to be counted in tokens."""

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_special_tokens: bool | None = None
    """Unset = true for a text, false for a conversation, whose template adds them."""
    return_token_strs: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    documents: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    reasoning_effort: ReasoningEffort | None = None


class DetokenizeRequest(msgspec.Struct, kw_only=True):
    """Token ids to be spelled out."""

    tokens: list[Count]
    model: str | None = None


TOKENIZE_BODY = BodyType(TokenizeRequest, refused={"mm_processor_kwargs": Refused("the model takes text only")})
DETOKENIZE_BODY = BodyType(DetokenizeRequest)


class TokenizeResponse(msgspec.Struct):
    """The ids, counted."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class DetokenizeResponse(msgspec.Struct):
    """The text."""

    prompt: str
