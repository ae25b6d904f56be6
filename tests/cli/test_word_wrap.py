"""Words that come in pieces are put whole into lines."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.frontend.cli.word_wrap import WordWrap


def wrapped(pieces: list[str], width: int) -> str:
    wrap = WordWrap(width)
    return "".join(wrap.feed(piece) for piece in pieces) + wrap.close()


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["a b"], "a b"),
        (["one two", "three"], "one\ntwothree"),
        (["one ", "two ", "three"], "one two\nthree"),
        (["12345678"], "12345678"),
        (["1234567890"], "1234567890"),
        (["a\n\n  b"], "a\n\n  b"),
        (["漢字漢字漢字"], "漢字漢字\n漢字"),
        (["```\na b c d e f\n```\na b c d e f"], "```\na b c d e f\n```\na b c d\ne f"),
    ],
)
def test_lines_of_eight_cells(pieces: list[str], expected: str) -> None:
    assert wrapped(pieces, 8) == expected


@given(st.text(alphabet="ab \n漢`", max_size=60), st.integers(1, 12), st.lists(st.integers(0, 60), max_size=6))
def test_nothing_is_lost_wherever_the_text_is_cut(text: str, width: int, cuts: list[int]) -> None:
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[a:b] for a, b in pairwise(places)]
    result = wrapped(pieces, width)
    assert result.replace("\n", "").replace(" ", "") == text.replace("\n", "").replace(" ", "")
    assert result == wrapped([text], width)
    if "`" not in text and "漢" not in text:
        longest = max((len(word) for word in text.split()), default=0)
        if longest <= width:
            assert all(len(line.rstrip()) <= width for line in result.split("\n"))
