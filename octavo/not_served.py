"""What vLLM has and this version has not: every name, with the sentence that says so.

Who builds one of these removes its line here; the methods, names, routes and keys that refuse follow from the tables. Engine
arguments have their table in `foreign_args.py`, fields of HTTP bodies in `frontend/server/fields.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from octavo.errors import ValidationError

_BEAM = "this version has no beam search"
_LORA = "this version has no LoRA adapters"
_MEDIA = "the model takes text only"
_EMBEDS = "this version takes text and token ids only"
_WEIGHTS = "weights cannot be exchanged while the engine runs; close it and start it with the new ones"
_RESPONSES = "this version has chat completions and text completions; /v1/responses comes with a later one"
_ANTHROPIC = "this version speaks OpenAI's API only"
_SPEECH = "this version has no speech models"
_ONE_CORE = "this version has one engine core on one device"
_SCALE_OUT = "this version does not split rendering from generating between servers"
_CODE = (
    "the engine runs in a process of its own and nothing is pickled between processes; name one of the workers' methods "
    "with collective_rpc (describe, memory, ...), or run the model in a process of yours with octavo.executor"
)

_WEIGHT_UPDATE = dict.fromkeys(
    (
        "init_weight_transfer_engine", "start_weight_update", "start_draft_weight_update", "update_weights", "finish_weight_update",
        "update_weight_version", "get_weight_version",
    ),
    _WEIGHTS,
)  # fmt: skip

NAMES: dict[str, str] = {
    "BeamSearchParams": _BEAM,
    "LoRARequest": _LORA,
    "EmbedsPrompt": _EMBEDS,
    "ExplicitEncoderDecoderPrompt": "this version has no encoder-decoder models",
}  # fmt: skip
"""Names of the package."""

LLM_METHODS: dict[str, str] = {
    "beam_search": _BEAM,
    "apply_model": _CODE,
    **_WEIGHT_UPDATE,
}

ASYNC_LLM_METHODS: dict[str, str] = {
    **dict.fromkeys(("add_lora", "remove_lora", "list_loras", "pin_lora"), _LORA),
    "apply_model": _CODE,
    "scale_elastic_ep": _ONE_CORE,
    **_WEIGHT_UPDATE,
}

LLM_ENGINE_METHODS: dict[str, str] = {
    **dict.fromkeys(("add_lora", "remove_lora", "list_loras", "pin_lora"), _LORA),
    "apply_model": _CODE,
}

ARGUMENTS: dict[str, str] = {
    "lora_request": _LORA,
    "mm_processor_kwargs": _MEDIA,
    "data_parallel_rank": _ONE_CORE,
    "kv_hints": "the KV cache takes no hints",
    "reasoning_ended": "this version has no reasoning parser",
    "reasoning_parser_kwargs": "this version has no reasoning parser",
}
"""Arguments of `generate` and its kind that must stay unset."""

SAMPLING_FIELDS: dict[str, str] = {
    **dict.fromkeys(("prompt_logprob_token_ids", "prompt_logprob_start"), "prompt_logprobs are of the most likely tokens"),
    "thinking_token_budget": "this version has no reasoning parser",
    "trace_decode_token_ids": "outputs cannot be forced; send them as the prompt and ask for prompt_logprobs",
    "watermarking": "this version does not watermark",
}
"""Fields of `SamplingParams` that must stay None."""

PROMPT_KEYS: dict[str, str] = {
    **dict.fromkeys(("multi_modal_data", "mm_processor_kwargs", "media_io_kwargs", "multi_modal_uuids"), _MEDIA),
    **dict.fromkeys(("prompt_embeds", "prompt_is_token_ids", "token_type_ids", "prompt_token_offsets"), _EMBEDS),
    **dict.fromkeys(("encoder_prompt", "decoder_prompt"), "this version has no encoder-decoder models"),
    **dict.fromkeys(
        ("data", "data_format"), "it is for an IO Processor plugin; give one such prompt, by itself, to encode or generate"
    ),
}
"""Keys of a prompt's dict."""

ROUTES: dict[str, str] = {
    "POST /v1/chat/completions/batch": "send one request a conversation; they are batched all the same",
    "POST /v1/responses": _RESPONSES,
    "GET /v1/responses/{id}": _RESPONSES,
    "POST /v1/responses/{id}/cancel": _RESPONSES,
    "POST /v1/messages": _ANTHROPIC,
    "POST /v1/messages/count_tokens": _ANTHROPIC,
    "POST /cohere/v2/chat": _ANTHROPIC,
    "POST /generative_scoring": "ask /v1/completions for logprob_token_ids",
    "POST /v1/systemone": "this version has no structured decisions",
    "POST /v1/audio/transcriptions": _SPEECH,
    "POST /v1/audio/translations": _SPEECH,
    "GET /v1/realtime": _SPEECH,
    "POST /invocations": "call the endpoint itself: /v1/chat/completions or /v1/completions",
    **dict.fromkeys(("POST /v1/load_lora_adapter", "POST /v1/unload_lora_adapter"), _LORA),
    **dict.fromkeys(("POST /scale_elastic_ep", "POST /is_scaling_elastic_ep"), _ONE_CORE),
    **dict.fromkeys(
        (
            "POST /v1/chat/completions/render", "POST /v1/completions/render", "POST /v1/messages/render",
            "POST /v1/responses/render", "POST /v1/chat/completions/derender", "POST /v1/completions/derender",
            "POST /inference/v1/generate", "POST /inference/v1/abort_requests",
        ),
        _SCALE_OUT,
    ),
    "GET /kv_event_sources": "this version publishes no KV events",
    **dict.fromkeys(("GET /docs", "GET /redoc", "GET /openapi.json"), "the endpoints are described in docs/server.md"),
    **dict.fromkeys(
        ("POST /init_weight_transfer_engine", "POST /update_weights", "GET /weight_info", "POST /weight_checker"), _WEIGHTS
    ),
    **dict.fromkeys(("POST /fault_tolerance/apply", "GET /fault_tolerance/status"), _ONE_CORE),
}  # fmt: skip
"""Routes of vLLM's server, as "METHOD /path"."""

METRICS: dict[str, str] = {
    "external_prefix_cache_queries": "there is no KV cache outside the engine",
    "external_prefix_cache_hits": "there is no KV cache outside the engine",
    "mm_cache_queries": _MEDIA,
    "mm_cache_hits": _MEDIA,
    "kv_block_lifetime_seconds": "the life of single KV blocks is not sampled",
    "kv_block_idle_before_evict_seconds": "the life of single KV blocks is not sampled",
    "kv_block_reuse_gap_seconds": "the life of single KV blocks is not sampled",
    "lora_requests_info": _LORA,
    "spec_decode_num_drafts": "this version has no speculative decoding",
    "spec_decode_num_draft_tokens": "this version has no speculative decoding",
    "spec_decode_num_accepted_tokens": "this version has no speculative decoding",
    "spec_decode_num_accepted_tokens_per_pos": "this version has no speculative decoding",
}
"""Metrics of vLLM's that have no series here."""

WITHOUT_EFFECT = frozenset({"prompt_text", "trace_headers", "session_id"})
"""Arguments of `generate` and its kind that only label a request."""

C = TypeVar("C", bound=type)


class NotServedError(ValidationError):
    """Something that vLLM has and this version has not."""


def refusal(name: str, table: Mapping[str, str]) -> NotServedError:
    """The error that says why `name`, a key of one of the tables, is not there."""
    return NotServedError(f"{name} is not supported: {table[name]}.", parameter=name)


def refusing(table: Mapping[str, str]) -> Callable[[C], C]:
    """A class decorator: the methods of a table raise their NotServedError when they are called."""

    def decorate(cls: C) -> C:
        for name in table:
            if not hasattr(cls, name):
                setattr(cls, name, _refusing_method(name, table))
        return cls

    return decorate


def _refusing_method(name: str, table: Mapping[str, str]) -> Callable[..., NoReturn]:
    def method(self: object, *_args: Any, **_kwargs: Any) -> NoReturn:
        error = refusal(name, table)
        raise NotServedError(f"{type(self).__name__}.{error}", parameter=name)

    method.__name__ = name
    method.__doc__ = f"Not supported: {table[name]}."
    return method


def check_arguments(caller: str, given: Mapping[str, Any]) -> None:
    """Look at the arguments of a call that it does not know itself.

    Raises:
        NotServedError: one that must stay unset.
        TypeError: an unknown one.
    """
    for name, value in given.items():
        if name in ARGUMENTS:
            if value is not None:
                raise refusal(name, ARGUMENTS)
        elif name not in WITHOUT_EFFECT:
            raise TypeError(f"{caller}() got an unexpected keyword argument {name!r}")
