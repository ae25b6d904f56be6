"""SamplingParams refuses what is out of range, naming the field, and resolves what is left open."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.errors import ValidationError
from octavo.params import MAX_N, RepetitionDetection, RequestOutputKind, SamplingParams

SWITCHES = (
    "ignore_eos", "flat_logprobs", "detokenize", "skip_special_tokens", "spaces_between_special_tokens",
    "include_stop_str_in_output", "skip_clone",
)  # fmt: skip

REFUSED: list[tuple[str, Any]] = [
    *[("n", value) for value in (0, -1, MAX_N + 1, 1.5, "2", True, None)],
    *[("presence_penalty", value) for value in (-2.01, 2.01, math.nan, math.inf, "0", None, True)],
    *[("frequency_penalty", value) for value in (-2.01, 2.01, math.nan, -math.inf, "0", None)],
    *[("repetition_penalty", value) for value in (0.0, -1.0, math.nan, math.inf, "1", None)],
    *[("temperature", value) for value in (-0.1, 2.01, math.nan, math.inf, "1", None, True)],
    *[("top_p", value) for value in (0.0, -0.1, 1.01, math.nan, "1", None)],
    *[("top_k", value) for value in (-2, 2**31, 1.5, "1", True, None)],
    *[("min_p", value) for value in (-0.1, 1.01, math.nan, "0", None)],
    *[("seed", value) for value in (2**64, -(2**63) - 1, 1.5, "1", True)],
    *[("max_tokens", value) for value in (0, -1, 2**31, 1.5, "1", True)],
    *[("min_tokens", value) for value in (-1, 17, 1.5, "1", None)],
    *[("logprobs", value) for value in (-2, 1.5, "1", 2**31, True, False)],
    *[("prompt_logprobs", value) for value in (-2, 1.5, "1", 2**31, True, False)],
    *[("output_kind", value) for value in ("x", "DELTA", 3, -1, True, 1.0, None, [], 2**70)],
    *[(name, value) for name in SWITCHES for value in (1, 0, "true", None, [])],
    *[("skip_reading_prefix_cache", value) for value in (1, "no")],
    *[("extra_args", value) for value in ([], "x", {1: 2}, {"a": 2**63})],
    *[("repetition_detection", value) for value in ("x", 1, {"max_size": 1}, {"min_count": "x"}, {"min_count": 2**31})],
    ("repetition_detection", RepetitionDetection(max_pattern_size=2**70, min_pattern_size=0, min_count=2)),
    ("repetition_detection", RepetitionDetection(max_pattern_size=True, min_pattern_size=0, min_count=2)),
    *[("stream_interval", value) for value in (0, -1, 1.5, "1", True)],
    *[("stop_token_ids", value) for value in ([-1], [2**31], [1.5], ["1"], [True], 1, "1")],
    *[("allowed_token_ids", value) for value in ([], [-1], ["1"], 7)],
    *[("logprob_token_ids", value) for value in ([-1], list(range(129)), ["1"])],
    *[("logit_bias", value) for value in ({-1: 1.0}, {"1": 1.0}, {1: math.nan}, {1: math.inf}, {1: "1"}, {1: True}, [1])],
    *[("stop", value) for value in ("", ["a", ""], [1], 5, [None])],
    *[("bad_words", value) for value in ([""], [1], "word", 5, [None])],
    ("presence_penalty", 10**400),
    ("logit_bias", {1: 10**400}),
    ("repetition_detection", {"max_pattern_size": 2}),
    ("repetition_detection", RepetitionDetection(max_pattern_size=2.0, min_pattern_size=1, min_count=2)),
    *[("repetition_detection", RepetitionDetection(**{name: 2**31})) for name in RepetitionDetection.__struct_fields__],
    *[("repetition_detection", RepetitionDetection(**{name: -1})) for name in RepetitionDetection.__struct_fields__],
    *[("seed", -1.0), ("top_k", -1.0), ("routed_experts_prompt_start", False)],
    ("repetition_detection", RepetitionDetection(max_pattern_size=2, min_pattern_size=3, min_count=2)),
    ("repetition_detection", RepetitionDetection(max_pattern_size=2, min_pattern_size=1, min_count=1)),
    ("structured_outputs", {"json": {}, "regex": "a"}),
    ("thinking_token_budget", 5),
    ("routed_experts_prompt_start", 1),
]


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=[f"{name}={value!r:.30}" for name, value in REFUSED])
def test_refusal_names_the_field(name: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        SamplingParams(**{name: value})
    assert caught.value.parameter == name
    assert name in str(caught.value)


ACCEPTED: list[tuple[str, Any]] = [
    *[("n", value) for value in (1, 2, MAX_N)],
    *[(name, value) for name in ("presence_penalty", "frequency_penalty") for value in (-2.0, 0, 2.0)],
    *[("repetition_penalty", value) for value in (1e-6, 1.0, 100.0)],
    *[("temperature", value) for value in (0.01, 1, 2.0)],
    *[("top_p", value) for value in (1e-9, 1, 1.0)],
    *[("top_k", value) for value in (0, 1, 2**31 - 1)],
    *[("min_p", value) for value in (0, 1.0)],
    *[("seed", value) for value in (None, 0, 2**64 - 1, -(2**63), -2)],
    *[("max_tokens", value) for value in (None, 16, 2**31 - 1)],
    *[("min_tokens", value) for value in (0, 16)],
    *[("logprobs", value) for value in (None, 0, 20, -1)],
    *[("stream_interval", value) for value in (None, 1, 50)],
]


@pytest.mark.parametrize(("name", "value"), ACCEPTED, ids=[f"{name}={value!r:.30}" for name, value in ACCEPTED])
def test_edges_of_the_ranges_are_accepted(name: str, value: Any) -> None:
    assert getattr(SamplingParams(**{name: value}), name) == value


@pytest.mark.parametrize("value", [2**63, 2**70, -(2**63) - 1, -(2**70)])
def test_no_field_takes_an_integer_that_the_wire_cannot_carry(value: int) -> None:
    """Whole numbers in any field, and in any list, are bounded (a seed by 64 bits)."""
    fields = {field.name: field.type for field in msgspec.structs.fields(SamplingParams)}
    whole = [name for name, kind in fields.items() if msgspec.inspect.IntType() in _kinds(msgspec.inspect.type_info(kind))]
    assert len(whole) > 10
    for name in whole:
        for junk in (value, [value], {value: 1.0}):
            if not (name == "seed" and junk == 2**63):
                with pytest.raises(ValidationError):
                    SamplingParams(**{name: junk})


@pytest.mark.parametrize("name", ["temperature", "top_k", "seed", "stop_token_ids", "stop", "repetition_detection"])
def test_a_number_too_long_to_be_written_is_refused_like_any_other(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        SamplingParams(**{name: 10**5000})


def _kinds(info: msgspec.inspect.Type) -> list[msgspec.inspect.Type]:
    """A type and those within it."""
    parts = [getattr(info, name, None) for name in ("item_type", "key_type", "value_type")]
    nested = [*getattr(info, "types", ()), *(part for part in parts if part is not None)]
    return [info, *(kind for part in nested for kind in _kinds(part))]


def test_other_spellings_of_off() -> None:
    params = SamplingParams(top_k=-1, seed=-1)
    assert (params.top_k, params.seed) == (0, None)


def test_zero_temperature_is_greedy_and_drops_the_filters() -> None:
    params = SamplingParams(temperature=0.0, top_p=0.5, top_k=5, min_p=0.1)
    assert params.greedy
    assert (params.top_p, params.top_k, params.min_p) == (1.0, 0, 0.0)


def test_tiny_temperature_is_raised_to_what_divides_safely() -> None:
    params = SamplingParams(temperature=0.001)
    assert params.temperature == 0.01
    assert not params.greedy


def test_several_greedy_sequences_are_refused() -> None:
    with pytest.raises(ValidationError, match="greedy") as caught:
        SamplingParams(temperature=0, n=2)
    assert caught.value.parameter == "n"


def test_stop_strings_need_text() -> None:
    with pytest.raises(ValidationError, match="detokenize"):
        SamplingParams(stop="x", detokenize=False)


def test_duplicates_go_and_order_stays() -> None:
    params = SamplingParams(stop=["b", "a", "b"], stop_token_ids=[5, 3, 5])
    assert params.stop_strings == ["b", "a"]
    assert params.stop_token_ids == [5, 3]
    assert SamplingParams(stop="x").stop_strings == ["x"]
    assert SamplingParams().stop_strings == []


def test_min_tokens_without_a_maximum() -> None:
    assert SamplingParams(max_tokens=None, min_tokens=1000).min_tokens == 1000


def test_unknown_field() -> None:
    with pytest.raises(TypeError):
        SamplingParams(temprature=1.0)  # type: ignore[call-arg]


def test_output_kind_from_its_number() -> None:
    assert SamplingParams(output_kind=2).output_kind is RequestOutputKind.FINAL_ONLY  # type: ignore[arg-type]
    assert SamplingParams(output_kind=RequestOutputKind.DELTA).output_kind is RequestOutputKind.DELTA


def test_huge_values_are_refused_without_being_written() -> None:
    with pytest.raises(ValidationError, match="n must be at most"):
        SamplingParams(n=10**5000)
    with pytest.raises(ValidationError, match="stop_token_ids must hold"):
        SamplingParams(stop_token_ids=[10**5000])


def test_clone_is_independent() -> None:
    params = SamplingParams(stop=["a"], temperature=0.5)
    copy = params.clone()
    copy.temperature = 1.0
    assert params.temperature == 0.5
    assert copy.stop == ["a"]


def test_from_optional_takes_defaults_for_none_and_clamps_bias() -> None:
    params = SamplingParams.from_optional(temperature=None, top_p=None, max_tokens=None, logit_bias={"5": 1000, 7: -1000})
    assert params.temperature == 1.0
    assert params.max_tokens is None
    assert params.logit_bias == {5: 100.0, 7: -100.0}


@pytest.mark.parametrize("bias", [{"x": 1}, {1: "y"}, {1: math.nan}, {1: 10**400}, {math.inf: 1}, {2**70: 1}])
def test_from_optional_refuses_bias_that_is_none(bias: dict[Any, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        SamplingParams.from_optional(logit_bias=bias)
    assert caught.value.parameter == "logit_bias"


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=2), st.floats(), max_size=2), st.lists(st.text(max_size=3), max_size=3),
    st.sampled_from([10**40, 10**400]),
)  # fmt: skip
NAMES = {field.name for field in msgspec.structs.fields(SamplingParams)}
CHECKED = sorted(NAMES)


@given(name=st.sampled_from(CHECKED), value=JUNK)
def test_junk_is_accepted_or_a_validation_error(name: str, value: Any) -> None:
    """Nothing else may escape: the server turns ValidationError into 400 and everything else into 500."""
    try:
        params = SamplingParams(**{name: value})
    except ValidationError as refusal:
        message = str(refusal)
    else:
        message = ""
        assert 0 <= params.temperature <= 2
        assert 0 < params.top_p <= 1
        assert params.n >= 1
    assert len(message) < 400
