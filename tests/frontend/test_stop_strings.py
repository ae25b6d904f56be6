"""Stop strings: the same wherever the text is cut, and nothing is held back without need."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.frontend.stop_strings import StopMatcher

ALPHABET = "abc"


def naive(text: str, stops: list[str], include: bool) -> tuple[str, str | None]:
    """Character by character: the first end of any stop string; ties by list order."""
    for end in range(1, len(text) + 1):
        for stop in stops:
            if text[:end].endswith(stop):
                return text[: end if include else end - len(stop)], stop
    return text, None


def run(pieces: list[str], stops: list[str], include: bool) -> tuple[list[str], str | None]:
    matcher = StopMatcher(stops, include)
    released: list[str] = []
    for piece in pieces:
        out, stop = matcher.feed(piece)
        released.append(out)
        if stop is not None:
            return released, stop
    return [*released, matcher.flush()], None


@settings(max_examples=600, deadline=None)
@given(
    st.lists(st.text(ALPHABET, max_size=5), max_size=8),
    st.lists(st.text(ALPHABET, min_size=1, max_size=4), min_size=1, max_size=4, unique=True),
    st.booleans(),
)
def test_cutting_changes_nothing(pieces: list[str], stops: list[str], include: bool) -> None:
    released, stop = run(pieces, stops, include)
    assert ("".join(released), stop) == naive("".join(pieces), stops, include)


@settings(max_examples=200, deadline=None)
@given(st.text(ALPHABET, max_size=20), st.lists(st.text(ALPHABET, min_size=1, max_size=4), min_size=1, max_size=3))
def test_only_a_possible_beginning_is_held(text: str, stops: list[str]) -> None:
    matcher = StopMatcher(stops, False)
    released = ""
    for place, char in enumerate(text):
        out, stop = matcher.feed(char)
        if stop is not None:
            return
        released += out
        held = text[len(released) : place + 1]
        assert held == "" or any(stop.startswith(held) and stop != held for stop in stops)


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("hello world", ["world", "wor"], ("hello ", "wor")),
        ("hello world", ["llo wor", "wo"], ("hello ", "wo")),
        ("abc", ["c", "bc"], ("ab", "c")),
        ("abc", ["bc", "c"], ("a", "bc")),
    ],
)
def test_the_match_complete_first_wins_ties_by_order(text: str, stops: list[str], expected: tuple[str, str]) -> None:
    for pieces in ([text], list(text)):
        released, stop = run(pieces, stops, False)
        assert ("".join(released), stop) == expected


def test_a_match_before_the_minimum_does_not_count_but_its_end_behind_it_does() -> None:
    matcher = StopMatcher(["END", "x"], False)
    assert matcher.feed("END x EN", check=False) == ("END x ", None)
    assert matcher.feed("D more") == ("", "END")


def test_unchecked_match_inside_an_open_one_stays_unchecked() -> None:
    matcher = StopMatcher(["abc", "b"], False)
    assert matcher.feed("ab", check=False) == ("", None)
    assert matcher.feed("x") == ("abx", None)
