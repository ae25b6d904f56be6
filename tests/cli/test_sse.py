"""The SSE decoder gives the same events wherever the network cuts the stream."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from octavo.frontend.cli.sse import SSEDecoder

STREAM = b': keep-alive\n\ndata: {"a": 1}\n\nevent: x\r\ndata:two\r\n\r\ndata: three\ndata: lines\n\n\n\ndata: [DONE]\n\n'
EVENTS = [b'{"a": 1}', b"two", b"three\nlines", b"[DONE]"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_cuts_do_not_matter(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    decoder = SSEDecoder()
    events = [event for start, end in pairwise(edges) for event in decoder.feed(STREAM[start:end])]
    assert events + decoder.close() == EVENTS


def test_last_event_without_its_blank_line() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\n\ndata: b") == [b"a"]
    assert decoder.close() == [b"b"]
    assert decoder.close() == []
