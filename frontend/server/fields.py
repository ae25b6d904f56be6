"""Fields that the generating endpoints share, served or not."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from octavo.frontend.server.body import Refused
from octavo.params import MAX_INT, RepetitionDetection

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""Any integer of a body: what is larger cannot be sent to the core. Closer limits are `SamplingParams`'s, with better words."""
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class StreamOptions(msgspec.Struct):
    """What a stream carries beside its text."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class GenerationFields(msgspec.Struct, kw_only=True):
    """Sampling and delivery fields of chat and text completions; None = the server's default."""

    model: str | None = None
    n: Int64 | None = None
    max_tokens: Int64 | None = None
    min_tokens: Int64 | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Int64 | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: Int64 | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[Int64] | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    logit_bias: dict[Int64, float] | None = None
    allowed_token_ids: list[Int64] | None = None
    bad_words: list[str] | None = None
    prompt_logprobs: Int64 | None = None
    logprob_token_ids: list[Int64] | None = None
    repetition_detection: RepetitionDetection | None = None
    truncate_prompt_tokens: Annotated[int, msgspec.Meta(ge=-1, le=MAX_INT)] | None = None
    truncation_side: Literal["left", "right"] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stream_interval: Int64 | None = None
    echo: bool | None = None
    priority: Int64 | None = None
    request_id: str | None = None
    cache_salt: str | None = None
    timeout: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Seconds until the request is ended with 504; the server's --request-timeout still holds."""
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    guided_json: str | dict[str, Any] | bool | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    guided_whitespace_pattern: str | None = None


_BEAM = "this version has no beam search"
_TRANSFER = "this version does not move KV blocks between servers"

REFUSED: dict[str, Refused] = {
    "use_beam_search": Refused(_BEAM, (None, False, 0)),
    "length_penalty": Refused(_BEAM, (None, 1, 1.0)),
    "early_stopping": Refused(_BEAM, (None, False, 0)),
    "kv_transfer_params": Refused(_TRANSFER),
    "ec_transfer_params": Refused(_TRANSFER),
    "mm_processor_kwargs": Refused("the model takes text only"),
    "media_io_kwargs": Refused("the model takes text only"),
    "thinking_token_budget": Refused("the model has no reasoning parser"),
    "watermarking": Refused("this version does not watermark"),
    "logits_processors": Refused("requests cannot bring code", (None, [])),
    "vllm_xargs": Refused("no extension reads them", (None, {})),
    "routed_experts_prompt_start": Refused("experts are not returned", (None, 0)),
}
"""Known fields that must stay neutral on every generating endpoint."""

WITHOUT_EFFECT = frozenset(
    {
        "user", "store", "metadata", "service_tier", "session_id", "prompt_cache_key", "prompt_cache_retention",
        "safety_identifier",
        "guided_decoding_backend",
    }
)  # fmt: skip
"""Fields that only label a request, or tune a field of REFUSED."""
