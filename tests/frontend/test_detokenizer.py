"""Incremental detokenization: whatever the tokens, the pieces joined are the library's own decoding."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import tokenizers_zoo as zoo
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.frontend.tokenizer import Tokenizer

KINDS = pytest.mark.parametrize("kind", zoo.EXACT, ids=lambda kind: kind.__name__)


@functools.cache
def made(kind: Callable[[], Tokenizer]) -> Tokenizer:
    return kind()


@functools.cache
def interesting_ids(kind: Callable[[], Tokenizer]) -> tuple[list[int], list[int]]:
    """Ids of special and added tokens, and ids of bytes: rare in the vocabulary, where the trouble is."""
    tokenizer = made(kind)
    named = [tokenizer.token_to_id(token) for token in [*zoo.SPECIAL, "<tool>", "<tool é>"]]
    texts = {i: tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)}
    bytes_ids = [i for i, data in texts.items() if len(data) == 1 and data[0] >= 0x80] or list(range(10))
    return [i for i in named if i is not None], bytes_ids


def token_lists(kind: Callable[[], Tokenizer]) -> st.SearchStrategy[list[int]]:
    special, single_bytes = interesting_ids(kind)
    anything = st.integers(0, made(kind).vocab_size + 3)
    spelled = st.text(max_size=6).map(lambda text: made(kind).encode(text, add_special_tokens=False))
    one = st.one_of(anything, st.sampled_from(special), st.sampled_from(single_bytes)).map(lambda i: [i])
    return st.lists(st.one_of(one, one, spelled), max_size=16).map(lambda lists: [i for ids in lists for i in ids])


def detokenized(tokenizer: Tokenizer, prompt: list[int], ids: list[int], skip: bool) -> str:
    detokenizer = tokenizer.detokenizers.new(prompt, skip)
    return "".join(map(detokenizer.push, ids)) + detokenizer.flush()


@KINDS
def test_pieces_join_to_the_full_decoding(kind: Callable[[], Tokenizer]) -> None:
    tokenizer = made(kind)

    @settings(max_examples=150, deadline=None)
    @given(token_lists(kind), st.booleans())
    def check(ids: list[int], skip: bool) -> None:
        assert detokenized(tokenizer, [], ids, skip) == tokenizer.decode(ids, skip)

    check()


@KINDS
def test_behind_a_prompt_only_what_is_new_comes_out(kind: Callable[[], Tokenizer]) -> None:
    tokenizer = made(kind)
    prompts = ["Hello", "The capital of France is ", "café Grüße"]

    @settings(max_examples=80, deadline=None)
    @given(st.sampled_from(prompts), token_lists(kind), st.booleans())
    def check(prompt: str, ids: list[int], skip: bool) -> None:
        prompt_ids = tokenizer.encode(prompt, add_special_tokens=False)
        expected = tokenizer.decode(prompt_ids + ids, skip)
        before = tokenizer.decode(prompt_ids, skip)
        # BPE with suffixes drops the space behind the last word; it comes with the next one.
        assert before + detokenized(tokenizer, prompt_ids, ids, skip) == expected

    check()


@KINDS
def test_text_of_real_sentences_streams_token_by_token(kind: Callable[[], Tokenizer]) -> None:
    """Nothing is held back without need: text grows with (nearly) every token."""
    tokenizer = made(kind)
    ids = tokenizer.encode("the answer to the question is a server and a queue", add_special_tokens=False)
    detokenizer = tokenizer.detokenizers.new([], True)
    pieces = [detokenizer.push(i) for i in ids]
    assert sum(piece == "" for piece in pieces) <= 1
    assert "".join(pieces) + detokenizer.flush() == tokenizer.decode(ids)


@pytest.mark.parametrize("kind", [zoo.byte_level, zoo.byte_fallback])
@pytest.mark.parametrize("text", ["你好，世界", "🙂🚀", "👩‍👩‍👧", "naïve é", "\u200d\u0301x"])
def test_split_characters_never_show_half(kind: Callable[[], Tokenizer], text: str) -> None:
    tokenizer = made(kind)
    ids = tokenizer.encode(text, add_special_tokens=False)
    detokenizer = tokenizer.detokenizers.new([], True)
    pieces = [detokenizer.push(i) for i in ids]
    assert all("\ufffd" not in piece for piece in pieces)
    assert "".join(pieces) + detokenizer.flush() == tokenizer.decode(ids)


def test_a_character_begun_in_the_prompt_belongs_to_the_output() -> None:
    for kind in (zoo.byte_level, zoo.byte_fallback_no_strip):
        tokenizer = made(kind)
        first, *rest = [
            next(i for i in range(tokenizer.vocab_size) if tokenizer.token_bytes(i) == bytes([b])) for b in "é".encode()
        ]
        prompt = [*tokenizer.encode("caf", add_special_tokens=False), first]
        assert detokenized(tokenizer, prompt, rest, True) == "é"


def test_leading_space_is_dropped_only_at_the_very_start() -> None:
    tokenizer = made(zoo.byte_fallback)
    hello = tokenizer.encode(" the", add_special_tokens=False)
    bos = tokenizer.token_to_id("<s>")
    assert bos is not None
    assert detokenized(tokenizer, [], hello, True) == tokenizer.decode(hello)
    assert detokenized(tokenizer, [bos], hello, True) == tokenizer.decode([bos, *hello], True)
    assert (
        detokenized(tokenizer, tokenizer.encode("of"), hello, True) == tokenizer.decode([*tokenizer.encode("of"), *hello])[2:]
    )


def test_added_tokens_are_joined_without_spaces_when_asked() -> None:
    tokenizer = made(zoo.word_piece)
    end, tool = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<tool>")
    [word] = tokenizer.encode("the", add_special_tokens=False)
    assert end is not None
    assert tool is not None
    ids = [word, end, tool, end, word]
    joined = tokenizer.detokenizers.new([], False, False)
    assert "".join(map(joined.push, ids)) + joined.flush() == "the <|im_end|><tool><|im_end|> the"
    assert detokenized(tokenizer, [], ids, False) == "the <|im_end|> <tool> <|im_end|> the"


def test_unusual_decoders_stay_bounded_and_right_on_valid_text() -> None:
    tokenizer = made(zoo.unusual_sequence)
    ids = tokenizer.encode("Grüße 你好 🙂 and more", add_special_tokens=False)
    assert detokenized(tokenizer, [], ids, True) == tokenizer.decode(ids, True)
    broken = [tokenizer.token_to_id("<0xFF>")] * 200
    assert "\ufffd" in detokenized(tokenizer, [], [i for i in broken if i is not None], True)


def test_token_bytes_join_to_the_text() -> None:
    for kind in (zoo.byte_level, zoo.byte_fallback_no_strip):
        tokenizer = made(kind)
        text = "café 你好 🙂 the end"
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert b"".join(map(tokenizer.token_bytes, ids)).decode() == text
        assert tokenizer.token_bytes(tokenizer.vocab_size + 5) == b""
