"""How to sample: what a caller says (`SamplingParams`) and what the engine needs of it (`SamplingSpec`)."""

from __future__ import annotations

import enum
import math
import reprlib
from collections.abc import Sized
from typing import Annotated, Any

import msgspec

from octavo.errors import ValidationError
from octavo.not_served import SAMPLING_FIELDS, refusal
from octavo.structured_outputs import GuidedDecodingParams, StructuredOutputsParams, resolved

MAX_INT = 2**31 - 1
"""No count or id here is larger."""
MAX_N = 16384
MAX_LOGPROB_TOKEN_IDS = 128
GREEDY_BELOW = 1e-5
SMALLEST_TEMPERATURE = 0.01
MOST_REPETITION_PENALTY = 1e6
"""The penalty divides and multiplies logits, which must stay numbers; its inverse is the least."""
MAX_TOKEN_IDS = 1_000_000
"""Ids in a list, biases in a map: more than any vocabulary has."""
MAX_STOP_CHARS = 2048
"""Of all stop strings together: each is looked for with every token."""
MAX_BAD_WORDS = 128
MAX_BAD_WORDS_CHARS = 32_768

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_INT)]
"""Checked where it is decoded; who makes a Struct in Python is checked by `SamplingParams`."""


class RequestOutputKind(enum.IntEnum):
    """What each item that `generate` yields holds."""

    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


class RepetitionDetection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Stop when the last tokens are one pattern, `min_pattern_size..max_pattern_size` long, `min_count` times over."""

    max_pattern_size: Count = 0
    min_pattern_size: Count = 0
    min_count: Count = 0


_SWITCHES = (
    "ignore_eos", "flat_logprobs", "detokenize", "skip_special_tokens", "spaces_between_special_tokens",
    "include_stop_str_in_output", "skip_clone",
)  # fmt: skip


class SamplingParams(msgspec.Struct, kw_only=True):
    """Sampling parameters, with vLLM's names, defaults and ranges; checked when made.

    Raises:
        ValidationError: naming the field, its value and what is allowed.
    """

    n: int = 1
    """Sequences to return, 1..16384; 1 when greedy."""
    presence_penalty: float = 0.0
    """Subtracted once from each token already in the output; [-2, 2]."""
    frequency_penalty: float = 0.0
    """Subtracted once per occurrence in the output; [-2, 2]."""
    repetition_penalty: float = 1.0
    """Divides (multiplies, when negative) logits of tokens in prompt or output; [1e-6, 1e6]."""
    temperature: float = 1.0
    """[0, 2]; 0 is greedy."""
    top_p: float = 1.0
    """(0, 1]."""
    top_k: int = 0
    """0 or -1 = off."""
    min_p: float = 0.0
    """[0, 1], relative to the most likely token."""
    seed: int | None = None
    """Makes the samples reproducible, whatever else is in the batch; -1 = None."""
    stop: str | list[str] | None = None
    """Strings that end the output when they appear in its text; at most 2048 characters together."""
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    """At least 1; None = up to the model's context."""
    min_tokens: int = 0
    """No stop token, EOS or stop string counts before this many tokens."""
    logprobs: int | None = None
    """How many top log-probabilities a sampled token comes with; -1 = the vocabulary."""
    prompt_logprobs: int | None = None
    prompt_logprob_token_ids: list[list[int]] | None = None
    prompt_logprob_start: int | None = None
    logprob_token_ids: list[int] | None = None
    """Token ids whose log-probabilities to return beside the sampled token's, instead of the top ones; at most 128."""
    flat_logprobs: bool = False
    """Return logprobs as one `FlatLogprobs` instead of a list of dicts."""
    detokenize: bool = True
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE
    stream_interval: int | None = None
    """Tokens to gather before an item is yielded; at least 1."""
    skip_clone: bool = False
    structured_outputs: StructuredOutputsParams | None = None
    """What the output must be: JSON of a schema, a pattern, one of some choices, a grammar's sentence."""
    guided_decoding: GuidedDecodingParams | None = None
    """An older name and form of `structured_outputs`, which it becomes."""
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: list[int] | None = None
    bad_words: list[str] | None = None
    extra_args: dict[str, Any] | None = None
    skip_reading_prefix_cache: bool | None = None
    thinking_token_budget: int | None = None
    repetition_detection: RepetitionDetection | None = None
    routed_experts_prompt_start: int = 0
    trace_decode_token_ids: list[int] | None = None
    watermarking: Any = None

    def __post_init__(self) -> None:
        self._normalize()
        self._check_unserved()
        self._check_numbers()
        self._check_token_lists()
        self._check_stop()
        if self.temperature < GREEDY_BELOW:
            self._make_greedy()
        elif self.temperature < SMALLEST_TEMPERATURE:
            self.temperature = SMALLEST_TEMPERATURE

    @property
    def greedy(self) -> bool:
        return self.temperature < GREEDY_BELOW

    @property
    def stop_strings(self) -> list[str]:
        """`stop` as a list without duplicates, in the caller's order."""
        return list(dict.fromkeys([self.stop] if isinstance(self.stop, str) else self.stop or []))

    def clone(self) -> SamplingParams:
        """A copy that may be changed without touching this one."""
        return msgspec.structs.replace(self)

    @classmethod
    def from_optional(cls, **fields: Any) -> SamplingParams:
        """Like the constructor, but None means the field's default, and logit_bias is clamped to [-100, 100]."""
        given = {name: value for name, value in fields.items() if value is not None}
        if "max_tokens" in fields:
            given["max_tokens"] = fields["max_tokens"]
        if isinstance(given.get("logit_bias"), dict):
            given["logit_bias"] = _clamped_bias(given["logit_bias"])
        return cls(**given)

    def _normalize(self) -> None:
        if self.seed == -1 and isinstance(self.seed, int):
            self.seed = None
        if self.top_k == -1 and isinstance(self.top_k, int):
            self.top_k = 0
        self.output_kind = _checked_kind(self.output_kind)
        self.structured_outputs = resolved(self.structured_outputs, self.guided_decoding)
        self.guided_decoding = None

    def _check_unserved(self) -> None:
        for name in SAMPLING_FIELDS:
            if getattr(self, name) is not None:
                raise refusal(name, SAMPLING_FIELDS)
        if self.routed_experts_prompt_start != 0 or isinstance(self.routed_experts_prompt_start, bool):
            raise _bad("routed_experts_prompt_start", self.routed_experts_prompt_start, "must be 0")
        for name in _SWITCHES:
            _check_bool(name, getattr(self, name))
        _check_extra_args(self.extra_args)

    def _check_numbers(self) -> None:
        _check_int("n", self.n, 1, MAX_N, low_text="must be at least 1")
        _check_float("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _check_float("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        most = MOST_REPETITION_PENALTY
        _check_float("repetition_penalty", self.repetition_penalty, 1 / most, most)
        _check_float("temperature", self.temperature, 0.0, 2.0, low_text="must be non-negative")
        _check_float("top_p", self.top_p, 0.0, 1.0, open_low=True)
        _check_int("top_k", self.top_k, 0, MAX_INT, low_text="must be 0 (disable), or at least 1")
        _check_float("min_p", self.min_p, 0.0, 1.0)
        _check_int("seed", self.seed, -(2**63), 2**64 - 1, optional=True)
        _check_int("max_tokens", self.max_tokens, 1, MAX_INT, optional=True, low_text="must be at least 1")
        _check_int("min_tokens", self.min_tokens, 0, MAX_INT)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise _bad("min_tokens", self.min_tokens, f"must be less than or equal to max_tokens={self.max_tokens}")
        _check_int("logprobs", self.logprobs, -1, MAX_INT, optional=True)
        _check_int("prompt_logprobs", self.prompt_logprobs, -1, MAX_INT, optional=True)
        _check_int("stream_interval", self.stream_interval, 1, MAX_INT, optional=True)
        if not isinstance(self.skip_reading_prefix_cache, bool | None):
            raise _bad("skip_reading_prefix_cache", self.skip_reading_prefix_cache, "must be a boolean")

    def _check_token_lists(self) -> None:
        self.stop_token_ids = _checked_ids("stop_token_ids", self.stop_token_ids)
        self.allowed_token_ids = _checked_ids("allowed_token_ids", self.allowed_token_ids)
        self.logprob_token_ids = _checked_ids("logprob_token_ids", self.logprob_token_ids)
        if self.allowed_token_ids is not None and not self.allowed_token_ids:
            raise _bad("allowed_token_ids", [], "must not be empty")
        if self.logprob_token_ids is not None and len(self.logprob_token_ids) > MAX_LOGPROB_TOKEN_IDS:
            raise _bad("logprob_token_ids", self.logprob_token_ids, f"may hold at most {MAX_LOGPROB_TOKEN_IDS} ids")
        if self.logit_bias is not None:
            _check_logit_bias(self.logit_bias)

    def _check_stop(self) -> None:
        _check_strings("stop", self.stop if not isinstance(self.stop, str) else [self.stop], MAX_STOP_CHARS, MAX_STOP_CHARS)
        _check_strings("bad_words", self.bad_words, MAX_BAD_WORDS, MAX_BAD_WORDS_CHARS)
        if self.stop and not self.detokenize:
            raise _bad("stop", self.stop, "needs detokenize=True")
        if self.repetition_detection is not None:
            _check_detection(self.repetition_detection)

    def _make_greedy(self) -> None:
        if self.n > 1:
            raise _bad("n", self.n, "must be 1 when using greedy sampling")
        self.temperature, self.top_p, self.top_k, self.min_p = 0.0, 1.0, 0, 0.0


_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 80


def _shown(value: Any) -> str:
    """The value, shortened before all of it is written."""
    try:
        text = repr(value) if isinstance(value, enum.Enum) else _repr.repr(value)
    except ValueError:  # an integer of more digits than Python writes
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."


def _bad(name: str, value: Any, rule: str) -> ValidationError:
    return ValidationError(f"{name} {rule}, got {_shown(value)}.", parameter=name, value=value)


def _check_int(name: str, value: Any, low: int, high: int, *, optional: bool = False, low_text: str = "") -> None:
    if value is None and optional:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise _bad(name, value, "must be an integer")
    if value < low:
        raise _bad(name, value, low_text or f"must be at least {low}")
    if value > high:
        raise _bad(name, value, f"must be at most {high}")


def _check_bool(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise _bad(name, value, "must be true or false")


def _checked_kind(kind: Any) -> RequestOutputKind:
    """An output kind, also from its number."""
    if isinstance(kind, int) and not isinstance(kind, bool) and kind in list(RequestOutputKind):
        return RequestOutputKind(kind)
    names = ", ".join(f"{each.name} ({each.value})" for each in RequestOutputKind)
    raise _bad("output_kind", kind, f"must be a RequestOutputKind: {names}")


def _check_extra_args(extra: Any) -> None:
    if extra is None:
        return
    if not isinstance(extra, dict):
        raise _bad("extra_args", extra, "must be a dict")
    for name, value in extra.items():
        if not isinstance(name, str):
            raise _bad("extra_args", name, "must have names that are strings")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise _bad("extra_args", value, "may hold integers of at most 64 bits")


def _check_float(name: str, value: Any, low: float, high: float, *, open_low: bool = False, low_text: str = "") -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _bad(name, value, "must be a number")
    if not _is_finite(value):
        raise _bad(name, value, "must be finite")
    if value < low and low_text:
        raise _bad(name, value, low_text)
    if value < low or value > high or (open_low and value == low):
        raise _bad(name, value, f"must be in {'(' if open_low else '['}{low:g}, {high:g}{']' if math.isfinite(high) else ')'}")


def _is_finite(value: float) -> bool:
    """Also of integers that are too large for a float."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _checked_ids(name: str, ids: Any) -> list[int] | None:
    """The ids without duplicates, in order."""
    if ids is None:
        return None
    if not isinstance(ids, list | tuple | set | frozenset):
        raise _bad(name, ids, "must be a list of token ids")
    _check_number_of_ids(name, ids)
    for token_id in ids:
        if not isinstance(token_id, int) or isinstance(token_id, bool) or not 0 <= token_id <= MAX_INT:
            raise _bad(name, token_id, "must hold token ids (integers, at least 0)")
    return list(dict.fromkeys(ids))


def _check_logit_bias(bias: Any) -> None:
    if not isinstance(bias, dict):
        raise _bad("logit_bias", bias, "must map token ids to numbers")
    _check_number_of_ids("logit_bias", bias)
    for token_id, value in bias.items():
        if not isinstance(token_id, int) or isinstance(token_id, bool) or not 0 <= token_id <= MAX_INT:
            raise _bad("logit_bias", token_id, "keys must be token ids (integers, at least 0)")
        if not isinstance(value, int | float) or isinstance(value, bool) or not _is_finite(value):
            raise _bad("logit_bias", value, "values must be finite numbers")


def _check_detection(detection: Any) -> None:
    if not isinstance(detection, RepetitionDetection):
        raise _bad("repetition_detection", detection, "must be a RepetitionDetection")
    for name in RepetitionDetection.__struct_fields__:
        try:
            _check_int(name, getattr(detection, name), 0, MAX_INT)
        except ValidationError as error:
            raise ValidationError(f"repetition_detection: {error}", parameter="repetition_detection", value=detection) from None
    if detection.max_pattern_size == 0:
        return
    if detection.min_pattern_size > detection.max_pattern_size:
        raise _bad("repetition_detection", detection, "needs 0 <= min_pattern_size <= max_pattern_size")
    if detection.min_count < 2:
        raise _bad("repetition_detection", detection, "needs min_count >= 2")


def _check_number_of_ids(name: str, ids: Sized) -> None:
    if len(ids) > MAX_TOKEN_IDS:
        raise ValidationError(
            f"{name} may hold at most {MAX_TOKEN_IDS} entries, got {len(ids)}.", parameter=name, value=len(ids)
        )


def _check_strings(name: str, strings: Any, most: int, most_chars: int) -> None:
    if strings is None:
        return
    if not isinstance(strings, list | tuple):
        raise _bad(name, strings, "must be a list of strings")
    if len(strings) > most:
        raise ValidationError(
            f"{name} may hold at most {most} strings, got {len(strings)}.", parameter=name, value=len(strings)
        )
    for text in strings:
        if not isinstance(text, str):
            raise _bad(name, text, "must hold strings")
        if not text:
            raise ValidationError(f"{name} cannot contain an empty string.", parameter=name, value=text)
    total = sum(map(len, strings))
    if total > most_chars:
        raise ValidationError(
            f"{name} may have at most {most_chars} characters together, got {total}.", parameter=name, value=total
        )


def _clamped_bias(bias: dict[Any, Any]) -> dict[int, float]:
    clamped: dict[int, float] = {}
    _check_number_of_ids("logit_bias", bias)
    for key, value in bias.items():
        try:
            token_id, number = int(key), float(value)
        except (TypeError, ValueError, OverflowError):
            raise _bad("logit_bias", {key: value}, "must map token ids to numbers") from None
        if math.isnan(number):
            raise _bad("logit_bias", number, "values must be finite numbers")
        clamped[token_id] = min(100.0, max(-100.0, number))
    return clamped
