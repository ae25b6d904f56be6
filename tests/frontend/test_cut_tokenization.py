"""Texts and pairs cut as the tokenizers library itself cuts them, by a tokenizer that nothing is set on."""

from __future__ import annotations

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import make_word_piece

from octavo.errors import ValidationError
from octavo.frontend.cut_tokenization import PairForm, encode_within, encoded, pair_joiner
from octavo.frontend.tokenizer import Tokenizer, shares

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "capital", "of", "France", "is", "Paris"]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)


@pytest.fixture(scope="module")
def backend() -> tokenizers.Tokenizer:
    return make_word_piece()


@pytest.fixture(scope="module")
def tokenizer(backend: tokenizers.Tokenizer) -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(backend.to_str()), {}, {})


@given(text=TEXTS, limit=st.integers(2, 14), keep_end=st.booleans())
def test_a_text(tokenizer: Tokenizer, backend: tokenizers.Tokenizer, text: str, limit: int, keep_end: bool) -> None:
    reference = tokenizers.Tokenizer.from_str(backend.to_str())
    reference.enable_truncation(limit, direction="left" if keep_end else "right")
    ids = encode_within(tokenizer, text, "input", limit=limit, keep_end=keep_end, add_special_tokens=True)
    assert ids == reference.encode(text).ids
    plain = encode_within(tokenizer, text, "input", limit=limit, keep_end=keep_end, add_special_tokens=False)
    assert plain == reference.encode(text, add_special_tokens=False).ids


@given(first=TEXTS, second=TEXTS, limit=st.none() | st.integers(3, 16), left=st.booleans(), add=st.booleans())
def test_a_pair(
    tokenizer: Tokenizer, backend: tokenizers.Tokenizer, first: str, second: str, limit: int | None, left: bool, add: bool
) -> None:
    reference = tokenizers.Tokenizer.from_str(backend.to_str())
    if limit is not None:
        reference.enable_truncation(limit, strategy="longest_first", direction="left" if left else "right")
    expected = reference.encode(first, second, add_special_tokens=add)
    texts = encoded(tokenizer, first, "first"), encoded(tokenizer, second, "second")
    pair = pair_joiner(tokenizer, PairForm(limit, keep_ends=left, add_special_tokens=add))(*texts)
    assert (pair.ids, pair.type_ids) == (expected.ids, expected.type_ids)
    again = pair_joiner(tokenizer, PairForm())(*texts)
    assert again.ids == tokenizers.Tokenizer.from_str(backend.to_str()).encode(first, second).ids


@given(first=st.integers(0, 40), second=st.integers(0, 40), room=st.integers(0, 40))
def test_what_is_kept_fills_the_room(first: int, second: int, room: int) -> None:
    kept = shares([first, second], room)
    assert sum(kept) == min(first + second, room)
    assert 0 <= kept[0] <= first
    assert 0 <= kept[1] <= second


def test_limits_of_each_text(tokenizer: Tokenizer) -> None:
    texts = [encoded(tokenizer, "the quick brown fox " * 3, "a"), encoded(tokenizer, "lazy dog " * 9, "b")]
    pair = pair_joiner(tokenizer, PairForm(None, first=2, second=5))(*texts)
    assert pair.type_ids == [0] * 4 + [1] * 6
    assert len(pair) == 10


def test_a_limit_below_the_special_tokens(tokenizer: Tokenizer) -> None:
    assert len(encode_within(tokenizer, "the fox", "input", limit=1, keep_end=False, add_special_tokens=True)) == 1


def test_half_a_surrogate_pair(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValidationError, match=r"input\[2\] is not valid Unicode"):
        encode_within(tokenizer, "\ud800", "input[2]", limit=5, keep_end=False, add_special_tokens=True)
