"""When a sequence ends."""

from __future__ import annotations

from typing import Any

import pytest
from core_configs import make_request
from hypothesis import given
from hypothesis import strategies as st

from octavo.core.repetition import RepetitionWatch
from octavo.core.request import Client, Request
from octavo.core.stopping import Stop, check_stop
from octavo.params import RepetitionDetection
from octavo.wire.messages import FinishReason

EOS, OTHER = 40, 41


def _after(prompt: list[int], output: list[int], num_new: int = 1, max_tokens: int = 20, **sampling: Any) -> Stop | None:
    request = Request(make_request("r", list(prompt), max_tokens, **sampling), Client(b"c"), 0, 64, by_priority=False)
    request.token_ids += output
    return check_stop(request, num_new)


@pytest.mark.parametrize(
    ("output", "sampling", "stop"),
    [
        ([1, 2], {}, None),
        ([1, EOS], {"eos_token_ids": (EOS,)}, Stop(FinishReason.STOP, None, 1)),
        ([1, OTHER], {"stop_token_ids": (OTHER,)}, Stop(FinishReason.STOP, OTHER, 1)),
        ([1, EOS], {"eos_token_ids": (EOS,), "stop_token_ids": (EOS,)}, Stop(FinishReason.STOP, None, 1)),
        ([EOS, 1], {"eos_token_ids": (EOS,)}, None),
        ([1, EOS], {"eos_token_ids": (EOS,), "min_tokens": 3}, None),
        ([1, 2, EOS], {"eos_token_ids": (EOS,), "min_tokens": 3}, Stop(FinishReason.STOP, None, 1)),
        ([1, 2], {"max_tokens": 2}, Stop(FinishReason.LENGTH, None, 1)),
        ([1, EOS], {"max_tokens": 2, "eos_token_ids": (EOS,)}, Stop(FinishReason.STOP, None, 1)),
        ([1] * 62, {"max_tokens": 100}, Stop(FinishReason.LENGTH, None, 1)),
    ],
)
def test_eos_stop_ids_and_length(output: list[int], sampling: dict[str, Any], stop: Stop | None) -> None:
    assert _after([1, 2], output, **sampling) == stop


def test_of_several_new_tokens_those_after_the_end_are_dropped() -> None:
    assert _after([1], [5, EOS, 6, EOS], num_new=3, eos_token_ids=(EOS,)) == Stop(FinishReason.STOP, None, 1)
    assert _after([1], [5, 5, 5, 5], num_new=3, max_tokens=3) == Stop(FinishReason.LENGTH, None, 2)


@pytest.mark.parametrize(
    ("prompt", "output", "detection", "repeats"),
    [
        ([], [1, 2, 1, 2, 1, 2], (2, 2, 3), True),
        ([], [9, 1, 2, 1, 2, 1, 2], (4, 1, 3), True),
        ([], [1, 2, 1, 2], (2, 2, 3), False),
        ([1, 2], [1, 2, 1, 2], (2, 2, 3), False),
        ([], [3, 3, 3], (1, 0, 3), True),
        ([], [3, 3, 4], (1, 0, 2), False),
        ([], [1, 2, 3, 1, 2, 4], (3, 1, 2), False),
        ([], [3, 3, 3, 3], (0, 0, 0), False),
    ],
)
def test_repetition(prompt: list[int], output: list[int], detection: tuple[int, int, int], repeats: bool) -> None:
    stop = _after([50, *prompt], output, repetition_detection=RepetitionDetection(*detection))
    assert (stop is not None and stop.reason is FinishReason.REPETITION) == repeats


def _by_definition(output: list[int], largest: int, smallest: int, count: int) -> bool:
    sizes = range(max(1, smallest), min(largest, len(output) // count) + 1)
    return any(output[-size:] * count == output[-size * count :] for size in sizes)


@given(
    output=st.lists(st.integers(0, 2), max_size=60),
    largest=st.integers(1, 20) | st.just(2**31 - 1),
    smallest=st.integers(0, 12),
    count=st.integers(2, 4),
    spare=st.integers(0, 40),
)
def test_repetition_is_what_its_definition_says(output: list[int], largest: int, smallest: int, count: int, spare: int) -> None:
    watch = RepetitionWatch(RepetitionDetection(largest, smallest, count), len(output) + spare)
    told = [watch.add(token) for token in output]
    assert told == [_by_definition(output[:end], largest, smallest, count) for end in range(1, len(output) + 1)]


@pytest.mark.parametrize("seen", [0, 1, 3, 6])
def test_an_output_that_is_there_already_is_caught_up_with(seen: int) -> None:
    token_ids, detection = [7, 7, 1, 2, 1, 2, 1, 2], RepetitionDetection(2, 2, 3)
    watch = RepetitionWatch(detection, 20)
    for end in range(2, 2 + seen):
        assert watch.catch_up(token_ids, 2, end) is False
    assert watch.catch_up(token_ids, 2, len(token_ids)) is True
    assert watch.catch_up([*token_ids, 3], 2, len(token_ids) + 1) is False


def test_length_comes_before_repetition_and_min_tokens_holds_it_back() -> None:
    detection = RepetitionDetection(1, 1, 2)
    assert _after([1], [3, 3], max_tokens=2, repetition_detection=detection) == Stop(FinishReason.LENGTH, None, 1)
    assert _after([1], [3, 3], min_tokens=3, repetition_detection=detection) is None
