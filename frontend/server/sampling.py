"""Request fields -> SamplingParams: what the request says, else the model's generation config, else OpenAI's defaults."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from octavo.config import EngineConfig
from octavo.errors import ValidationError
from octavo.frontend.input_processor import default_sampling_fields
from octavo.frontend.server.constraints import constraint
from octavo.frontend.server.fields import GenerationFields
from octavo.params import RequestOutputKind, SamplingParams

MAX_CACHE_SALT = 128

_COPIED = (
    "n", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "min_tokens", "presence_penalty", "frequency_penalty", "seed", "stop", "stop_token_ids", "ignore_eos",
    "skip_special_tokens", "spaces_between_special_tokens", "include_stop_str_in_output", "logit_bias", "allowed_token_ids",
    "bad_words", "prompt_logprobs", "logprob_token_ids", "repetition_detection", "stream_interval",
)  # fmt: skip
_LISTS = ("stop", "stop_token_ids", "logit_bias", "allowed_token_ids", "bad_words", "logprob_token_ids")


def sampling_params(
    body: GenerationFields, config: EngineConfig, *, max_tokens: int | None, logprobs: int | None, **changes: Any
) -> SamplingParams:
    """The parameters that a request's fields mean.

    Args:
        max_tokens: None = as many as fit the context, or the model's own limit.
        logprobs: top log-probabilities a token; each endpoint names this field differently.
        changes: fields that the endpoint sets itself.

    Raises:
        ValidationError: a value out of range.
    """
    check_shared_rules(body)
    fields = {"max_tokens": None, **default_sampling_fields(config)}
    fields.update({name: value for name in _COPIED if (value := getattr(body, name)) is not None})
    if max_tokens is not None:
        fields["max_tokens"] = max_tokens
    fields["structured_outputs"] = constraint(body)
    kind = RequestOutputKind.DELTA if body.stream else RequestOutputKind.FINAL_ONLY
    return SamplingParams.from_optional(**{**fields, "logprobs": logprobs, "output_kind": kind, **changes})


def weight(body: GenerationFields) -> int:
    """Entries of the request's lists: what making its parameters goes over, one by one."""
    return sum(len(value) for name in _LISTS if (value := getattr(body, name)) is not None)


def check_shared_rules(body: GenerationFields) -> None:
    """Rules between fields, the same on every endpoint.

    Raises:
        ValidationError: naming the field.
    """
    if body.stream_options is not None and not body.stream:
        raise ValidationError("stream_options needs stream=true.", parameter="stream_options")
    if body.stream and body.prompt_logprobs:
        raise ValidationError("prompt_logprobs cannot be streamed.", parameter="prompt_logprobs", value=body.prompt_logprobs)
    if body.cache_salt is not None:
        check_cache_salt(body.cache_salt)


def check_cache_salt(salt: str) -> None:
    """Raise ValidationError for a salt that is too long, or holds what could be taken for a part of a path."""
    if not 1 <= len(salt) <= MAX_CACHE_SALT or any(character in salt for character in "@/\\\0"):
        rule = f"must have 1 to {MAX_CACHE_SALT} characters, none of them @, /, \\ or NUL"
        raise ValidationError(f"cache_salt {rule}.", parameter="cache_salt", value=salt)


@contextmanager
def named_by_client(names: dict[str, str]) -> Iterator[None]:
    """Let errors of the block name a parameter as this endpoint's clients spell it, e.g. top_logprobs for logprobs."""
    try:
        yield
    except ValidationError as error:
        error.parameter = names.get(error.parameter or "", error.parameter)
        raise
