"""`/v1/chat/completions`: what comes in and what goes out."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from octavo.frontend.server.body import BodyType, Refused
from octavo.frontend.server.fields import REFUSED, WITHOUT_EFFECT, GenerationFields, Int64, ReasoningEffort
from octavo.frontend.server.logprobs import PromptLogprob
from octavo.frontend.server.per_request_metrics import PerRequestMetrics
from octavo.frontend.server.usage import Usage


class ChatRequest(GenerationFields, kw_only=True):
    """Body of a chat completion."""

    messages: list[dict[str, Any]]
    """Checked when they are rendered: templates may know more keys than OpenAI's."""
    max_completion_tokens: Int64 | None = None
    """Wins over max_tokens."""
    logprobs: bool | None = None
    top_logprobs: Int64 | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    add_special_tokens: bool | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    documents: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    reasoning_effort: ReasoningEffort | None = None


_TEXT_ONLY = "this version answers with text only"

CHAT_BODY = BodyType(
    ChatRequest,
    refused={
        **REFUSED,
        "audio": Refused(_TEXT_ONLY),
        "modalities": Refused(_TEXT_ONLY, (None, ["text"])),
        "functions": Refused("this version does not call tools", (None, [])),
        "function_call": Refused("this version does not call tools", (None, "none")),
        "web_search_options": Refused("this server does not search the web"),
        "best_of": Refused("it is a field of /v1/completions", (None, 1)),
        "return_token_offsets": Refused("use /v1/completions with logprobs", (None, False)),
        "mm_payload": Refused("this version does not render for other servers", (None, "tensors")),
        "return_prompt_text": Refused("use /v1/completions with echo", (None, False)),
    },
    without_effect=WITHOUT_EFFECT | {"parallel_tool_calls", "include_reasoning", "verbosity", "prediction"},
)


class TopLogprob(msgspec.Struct):
    """A candidate at a position."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(msgspec.Struct):
    """A sampled token and its rivals."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(msgspec.Struct):
    """Of each token of a choice."""

    content: list[TokenLogprob]


class AnswerMessage(msgspec.Struct):
    """The model's turn."""

    role: str
    content: str
    refusal: None = None
    annotations: None = None
    audio: None = None
    function_call: None = None
    reasoning: None = None


class ChatChoice(msgspec.Struct):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: str | None
    stop_reason: int | str | None
    token_ids: list[int] | None
    routed_experts: None = None


class ChatResponse(msgspec.Struct):
    """The whole answer."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | None = None
    prompt_token_ids: list[int] | None = None
    metrics: PerRequestMetrics | None = None
    service_tier: None = None
    prompt_text: None = None
    kv_transfer_params: None = None
    ec_transfer_params: None = None


class Delta(msgspec.Struct):
    """What a chunk adds to the message."""

    content: str
    role: str | UnsetType = UNSET


class DeltaChoice(msgspec.Struct):
    """One choice's news in a chunk."""

    index: int
    delta: Delta
    logprobs: ChoiceLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | UnsetType | None = UNSET
    token_ids: list[int] | UnsetType = UNSET
