"""`/v1/completions`: what comes in and what goes out."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from octavo.frontend.server.body import BodyType, Refused
from octavo.frontend.server.fields import REFUSED, WITHOUT_EFFECT, GenerationFields, Int64
from octavo.frontend.server.logprobs import PromptLogprob
from octavo.frontend.server.per_request_metrics import PerRequestMetrics
from octavo.frontend.server.usage import Usage

DEFAULT_MAX_TOKENS = 16


class CompletionRequest(GenerationFields, kw_only=True):
    """Body of a text completion."""

    prompt: str | list[str | Int64 | list[Int64]]
    """A text, token ids, or several of either."""
    logprobs: Int64 | None = None
    best_of: Int64 | None = None
    """Sequences to make, of which the `n` most likely are answered."""
    add_special_tokens: bool | None = None


COMPLETION_BODY = BodyType(
    CompletionRequest,
    refused={
        **REFUSED,
        "suffix": Refused("the model does not fill in the middle", (None, "")),
        "prompt_embeds": Refused("this version takes text and token ids only"),
    },
    without_effect=WITHOUT_EFFECT,
)


class CompletionLogprobs(msgspec.Struct):
    """Parallel lists, one entry a token."""

    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


class CompletionChoice(msgspec.Struct):
    """One choice, whole or (streamed) what is new of it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | UnsetType | None = UNSET
    token_ids: list[int] | UnsetType | None = UNSET
    prompt_token_ids: list[int] | UnsetType | None = UNSET
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | UnsetType | None = UNSET
    routed_experts: UnsetType | None = UNSET


class CompletionResponse(msgspec.Struct):
    """The whole answer."""

    id: str
    object: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    system_fingerprint: str
    metrics: PerRequestMetrics | None = None
    service_tier: None = None
    kv_transfer_params: None = None
    ec_transfer_params: None = None
