"""Grammars of requests: compiled once each, followed on the bytes of the vocabulary, by llguidance.

The core knows tokens as bytes, which a frontend sends once; what a grammar says is in the words of `octavo.structured_outputs`.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from octavo.errors import ValidationError
from octavo.wire.messages import EngineRequest, Vocabulary

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

logger = logging.getLogger(__name__)

MAX_KEPT_GRAMMARS = 64
MAX_KEPT_CHARS = 16_000_000


class Words:
    """A vocabulary as llguidance takes it: text that a grammar leaves no choice about is cut into its longest tokens."""

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary, vocab_size: int) -> None:
        self.tokens = vocabulary.tokens[:vocab_size]
        self.special_token_ids = [i for i in vocabulary.special_ids if i < len(self.tokens)]
        self.eos_token_id = vocabulary.eos_id
        self.cut: Callable[[bytes], list[int]] = lambda _: []

    def __call__(self, text: bytes) -> list[int]:
        return self.cut(text)


def tokenizer_of(vocabulary: Vocabulary, vocab_size: int) -> LLTokenizer:
    """Raises: ValueError: llguidance cannot take the vocabulary."""
    from llguidance import LLTokenizer, TokenizerWrapper

    words = Words(vocabulary, vocab_size)
    tokenizer = LLTokenizer(TokenizerWrapper(words), n_vocab=vocab_size)
    words.cut = lambda text: tokenizer.greedy_tokenize(text.decode("utf-8", "replace"))
    return tokenizer


class GrammarConstraint:
    """One request's place in its grammar."""

    def __init__(self, matcher: LLMatcher, eos_id: int, stop_ids: Collection[int]) -> None:
        self._matcher = matcher
        self._eos_id = eos_id
        self._stop_ids = stop_ids
        self.complete = False

    def fill(self, bits: npt.NDArray[np.int32]) -> None:
        """The grammar's own end token stands for all that end the request, which are no words: none ends it anywhere else.

        Where the grammar has grown beyond llguidance's limits nothing is allowed, and the sampler fails this row alone.
        """
        bits[:] = np.frombuffer(self._matcher.compute_bitmask(), np.int32, len(bits))
        if self._matcher.is_error():
            logger.warning("a grammar cannot be followed further: %s", _first_line(self._matcher.get_error()))
            bits[:] = 0
            return
        octets = bits.view(np.uint8)
        may_end = bool(octets[self._eos_id // 8] >> self._eos_id % 8 & 1)
        for token_id in (self._eos_id, *self._stop_ids):
            octets[token_id // 8] &= ~(1 << token_id % 8) & 0xFF
        for token_id in self._stop_ids if may_end else ():
            octets[token_id // 8] |= 1 << token_id % 8

    def accept(self, token_id: int) -> bool:
        accepted = bool(self._matcher.consume_token(token_id))
        self.complete = accepted and token_id == self._eos_id
        return accepted


class Grammars:
    """Compiled grammars by their text, the last ones used.

    `compiled` may run on a thread of its own, one at a time; all else is for the core's.
    """

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._vocabulary: Vocabulary | None = None
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()

    def set_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Take the words of the tokenizer; all frontends have one and the same."""
        self._vocabulary = vocabulary

    def knows(self, grammar: str) -> bool:
        return grammar in self._compiled

    def compiled(self, grammar: str) -> LLMatcher:
        """A grammar's matcher, with its errors if it has any.

        Raises:
            ValueError: there is no vocabulary, or llguidance cannot take it.
        """
        from llguidance import LLMatcher

        if self._vocabulary is None:
            raise ValidationError("no vocabulary came before the first grammar")
        if self._tokenizer is None:
            self._tokenizer = tokenizer_of(self._vocabulary, self._vocab_size)
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=_limits())
        if not matcher.is_error():
            matcher.compute_bitmask()  # the first one is the dearest, and later ones build on what it found
        return matcher

    def keep(self, grammar: str, matcher: LLMatcher) -> None:
        """Know a grammar until so many others came that it is forgotten."""
        self._compiled[grammar] = matcher
        while len(self._compiled) > MAX_KEPT_GRAMMARS or sum(map(len, self._compiled)) > MAX_KEPT_CHARS > len(grammar):
            self._compiled.popitem(last=False)

    def constraint(self, message: EngineRequest) -> GrammarConstraint | None:
        """What a request's output keeps to.

        Raises:
            ValueError: its grammar is none.
        """
        grammar = message.sampling.grammar
        if grammar is None or self._vocabulary is None:
            return None
        self._compiled.move_to_end(grammar)
        matcher = self._compiled[grammar].deep_copy()
        if matcher.is_error():
            raise ValueError(_first_line(matcher.get_error()))
        sampling = message.sampling
        stop_ids = (*sampling.eos_token_ids, *sampling.stop_token_ids) or (self._vocabulary.eos_id,)
        return GrammarConstraint(matcher, self._vocabulary.eos_id, stop_ids)


def _first_line(text: str) -> str:
    return text.splitlines()[0][:500] if text else "unknown error"


def _limits() -> LLParserLimits:
    """Some 10 ms of work for one token, some 100 MB for one grammar; an object of 2,000 properties fits."""
    from llguidance import LLParserLimits

    return LLParserLimits(max_items_in_row=20_000, step_max_items=100_000, step_lexer_fuel=100_000, max_lexer_states=50_000)
