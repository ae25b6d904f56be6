"""Requests with grammars in a core: compiled on a thread, kept, followed token by token."""

from __future__ import annotations

import re
import time

import hypothesis.strategies as st
import numpy as np
import pytest
from core_configs import VOCAB_SIZE, make_config, make_request
from harness import CLIENT, Harness, Received
from hypothesis import given, settings
from llguidance import LLMatcher

from octavo.core.grammar import Grammars
from octavo.wire.messages import FinishReason, Vocabulary

EOS = 0
TOKENS = [
    b"",
    *(bytes([byte]) for byte in b"abcdefghijklmnopqrstuvwxyz0123456789 -"),
    b"ab",
    b"abc",
    b"12",
    "\u00e9".encode()[:1],
]
VOCABULARY = Vocabulary([*TOKENS, *([b""] * (VOCAB_SIZE - 2 - len(TOKENS)))], [EOS], EOS)
"""Some tokens of several bytes, one that is half a character, and two ids of padding that have no word."""


def text_of(received: Received) -> str:
    return b"".join(TOKENS[token] for token in received.tokens).decode()


def wait_for(harness: Harness, *received: Received) -> None:
    """Until these have ended; a grammar is compiled on a thread meanwhile."""
    deadline = time.monotonic() + 30
    while any(one.finish_reason is None for one in received):
        harness.step()
        assert time.monotonic() < deadline, "no answer"
        time.sleep(0.001)
    harness.run()


def taught() -> Harness:
    harness = Harness(make_config())
    harness.inbox.put((CLIENT, VOCABULARY))
    return harness


@given(
    pattern=st.sampled_from(["[a-c]{2,5}", "(ab|12)+x", "x?", "[0-9]{3}-[0-9]{4}", "(abc){1,4}", "a|abcd"]),
    seed=st.integers(0, 50),
    prompt=st.lists(st.integers(1, 20), min_size=1, max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_output_keeps_to_its_pattern_and_neighbours_do_not_notice(pattern: str, seed: int, prompt: list[int]) -> None:
    harness = taught()
    grammar = LLMatcher.grammar_from_regex(pattern)
    held = harness.add(make_request("held", list(prompt), 24, seed=seed, eos_token_ids=(EOS,), grammar=grammar))
    free = harness.add(make_request("free", list(prompt), 24, seed=seed))
    wait_for(harness, held, free)
    assert free.tokens == harness.expected(free.request)
    if held.finish_reason is FinishReason.STOP:
        assert held.tokens[-1] == EOS
        assert re.fullmatch(pattern, text_of(held))
    else:
        assert (held.finish_reason, len(held.tokens)) == (FinishReason.LENGTH, 24)


def test_all_stop_tokens_may_end_it_and_only_where_it_may_end() -> None:
    stops = (EOS, 30)  # 30 is the word "3", which the pattern has no room for
    harness = taught()
    grammar = LLMatcher.grammar_from_regex("a{4}")
    requests = [
        harness.add(make_request(f"r{seed}", [3], 8, seed=seed, eos_token_ids=(EOS,), stop_token_ids=(30,), grammar=grammar))
        for seed in range(40)
    ]
    wait_for(harness, *requests)
    ends = {received.tokens[-1] for received in requests}
    assert ends == set(stops)
    assert {text_of(received).removesuffix("3") for received in requests} == {"aaaa"}


def test_a_stop_token_that_is_a_word_of_the_grammar_ends_nothing_before_its_end() -> None:
    harness = taught()
    grammar = LLMatcher.grammar_from_regex("[3a]{4}")
    requests = [
        harness.add(make_request(f"r{seed}", [3], 8, seed=seed, stop_token_ids=(30,), grammar=grammar)) for seed in range(20)
    ]
    wait_for(harness, *requests)
    assert {(text_of(received), received.finish_reason) for received in requests} == {("aaaa3", FinishReason.STOP)}


def test_it_ends_where_end_tokens_are_ignored() -> None:
    harness = taught()
    received = harness.add(make_request("r", [3], 8, grammar=LLMatcher.grammar_from_regex("ab")))
    wait_for(harness, received)
    assert (text_of(received), received.finish_reason) == ("ab", FinishReason.STOP)


def test_a_wrong_grammar_is_its_requests_error() -> None:
    harness = taught()
    wrong = harness.add(make_request("wrong", [3], 8, grammar="start: nothing"))
    good = harness.add(make_request("good", [3], 8, eos_token_ids=(EOS,), grammar=LLMatcher.grammar_from_regex("ab")))
    wait_for(harness, wrong, good)
    assert wrong.finish_reason is FinishReason.ERROR
    assert "nothing" in (wrong.error or "")
    assert text_of(good) == "ab"


def test_without_a_vocabulary_it_is_refused() -> None:
    harness = Harness(make_config())
    received = harness.add(make_request("r", [3], 8, grammar=LLMatcher.grammar_from_regex("ab")))
    wait_for(harness, received)
    assert received.finish_reason is FinishReason.ERROR
    assert "no vocabulary" in (received.error or "")


def test_one_that_is_aborted_while_its_grammar_is_compiled_does_not_come_back() -> None:
    harness = taught()
    grammar = LLMatcher.grammar_from_regex("[a-z]{20}")
    harness.add(make_request("gone", [3], 8, grammar=grammar))
    harness.core.take_messages(wait=False)
    harness.abort("gone")
    after = harness.add(make_request("after", [3], 4, grammar=grammar))
    wait_for(harness, after)
    assert [name.split("#")[0] for name in harness.executor.ledger.joined] == ["after"]


def test_a_grammar_with_thousands_of_alternatives_is_followed() -> None:
    grammars = Grammars(VOCAB_SIZE)
    grammars.set_vocabulary(VOCABULARY)
    lark = "start: item+\n" + f"item: {' | '.join(f'word{n} word{n}' for n in range(3000))}\n"
    lark += "\n".join(f'word{n}: "a{n}" "b"' for n in range(3000))
    grammars.keep(lark, grammars.compiled(lark))
    constraint = grammars.constraint(make_request("r", [3], 8, grammar=lark))
    assert constraint is not None
    bits = np.zeros(2, np.int32)
    constraint.fill(bits)
    assert bits.any()
    assert constraint.accept(1)
    constraint.fill(bits)
    assert bits.any()


def test_grammars_are_kept_the_last_ones_used() -> None:
    grammars = Grammars(VOCAB_SIZE)
    grammars.set_vocabulary(VOCABULARY)
    texts = [LLMatcher.grammar_from_regex(f"a{{{n}}}") for n in range(1, 300)]
    matcher = grammars.compiled(texts[0])
    for text in texts:
        grammars.keep(text, matcher)
    assert not grammars.knows(texts[0])
    assert grammars.knows(texts[-1])
    with pytest.raises(KeyError):
        grammars.constraint(make_request("r", [3], 8, grammar=texts[0]))
