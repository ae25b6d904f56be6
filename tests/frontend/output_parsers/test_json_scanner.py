"""The end of a JSON value is found where a JSON decoder finds it, however the text is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.frontend.output_parsers.json_scanner import JsonScanner

texts = st.text('a"\\{}[]:,\n', max_size=6)
inner = st.recursive(texts | st.integers(), lambda below: st.lists(below) | st.dictionaries(texts, below), max_leaves=8)
values = texts | st.lists(inner) | st.dictionaries(texts, inner)


def scanned(text: str, size: int) -> tuple[int, JsonScanner]:
    """Length of what the scanner takes of a text in pieces of a size, and the scanner."""
    scanner = JsonScanner()
    taken = 0
    for start in range(0, len(text), size):
        if scanner.done or scanner.broken:
            break
        taken = start + scanner.scan(text[start : start + size], 0)
    return taken, scanner


@settings(max_examples=300, deadline=None)
@given(values, texts, st.integers(1, 9), st.sampled_from([None, 1]))
def test_the_end_is_found(value: Any, after: str, size: int, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    taken, scanner = scanned(text + after, size)
    assert (text + after)[:taken] == text
    assert scanner.done
    assert not scanner.broken


@pytest.mark.parametrize(("text", "place"), [("[1}", 2), ('{"a": [}', 7), ("1", 0), ("]", 0), (" {}", 0)])
def test_the_wrong_place_is_found(text: str, place: int) -> None:
    for size in (1, 99):
        taken, scanner = scanned(text, size)
        assert (taken, scanner.broken, scanner.done) == (place, True, False)


@pytest.mark.parametrize("text", ['"a', '"a\\"', "[[]", '{"a": "}"', '["\\'])
def test_an_open_value_is_taken_whole(text: str) -> None:
    taken, scanner = scanned(text, 1)
    assert (taken, scanner.broken, scanner.done) == (len(text), False, False)
