"""Texts, and pairs of texts, as token ids of which the special ones stay when there are too many.

A model that pools reads its first or last token, so a cut must not take that away. The texts are cut, and what the tokenizer
adds to a prompt is put around what is left. No state of the tokenizer is changed: other threads use it meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tokenizers import Encoding

from octavo.frontend.text_checks import check_unicode
from octavo.frontend.tokenizer import Tokenizer, shares


@dataclass(frozen=True, slots=True)
class TokenPair:
    """Two texts as one prompt.

    Attributes:
        ids: token ids.
        type_ids: for each, 0 or 1: which of the texts it belongs to, for models that are told.
    """

    ids: list[int]
    type_ids: list[int]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class PairForm:
    """How pairs become prompts.

    Attributes:
        whole: tokens of a pair that are kept, special ones included; the longer text is cut first. None = all.
        first, second: of each text, without special tokens.
        keep_ends: texts are cut at their beginnings, not at their ends.
        add_special_tokens: put around the texts what the tokenizer puts around a pair.
    """

    whole: int | None = None
    first: int | None = None
    second: int | None = None
    keep_ends: bool = False
    add_special_tokens: bool = True


def encode_within(
    tokenizer: Tokenizer, text: str, name: str, *, limit: int, keep_end: bool, add_special_tokens: bool
) -> list[int]:
    """At most `limit` token ids of a text, special ones included.

    Args:
        keep_end: the text is cut at its beginning, not at its end.

    Raises:
        ValidationError: the text is no valid Unicode; calls it `name`.
    """
    encoding = encoded(tokenizer, text, name)
    num_special = tokenizer.backend.num_special_tokens_to_add(is_pair=False) if add_special_tokens else 0
    _cut(encoding, max(0, limit - num_special), "left" if keep_end else "right")
    if add_special_tokens:
        encoding = tokenizer.backend.post_process(encoding, None, True)
    return encoding.ids[:limit]


def encoded(tokenizer: Tokenizer, text: str, name: str) -> Encoding:
    """A text's tokens without special ones.

    Raises:
        ValidationError: the text is no valid Unicode; calls it `name`.
    """
    try:
        return tokenizer.plain_encoding(text)
    except TypeError:
        check_unicode(name, text)
        raise


def pair_joiner(tokenizer: Tokenizer, form: PairForm) -> Callable[[Encoding, Encoding], TokenPair]:
    """Makes prompts of pairs of `encoded` texts, which it leaves as they are."""
    num_special = tokenizer.backend.num_special_tokens_to_add(is_pair=True) if form.add_special_tokens else 0
    side = "left" if form.keep_ends else "right"

    def join(first: Encoding, second: Encoding) -> TokenPair:
        lengths = [_least(len(first), form.first), _least(len(second), form.second)]
        if form.whole is not None:
            lengths = shares(lengths, max(0, form.whole - num_special))
        kept = []
        for encoding, length in zip((first, second), lengths, strict=True):
            kept.append(Encoding.merge([encoding], growing_offsets=False))
            _cut(kept[-1], length, side)
        pair = tokenizer.backend.post_process(kept[0], kept[1], form.add_special_tokens)
        return TokenPair(pair.ids[: form.whole], pair.type_ids[: form.whole])

    return join


def _least(number: int, limit: int | None) -> int:
    return number if limit is None else min(number, limit)


def _cut(encoding: Encoding, length: int, direction: str) -> None:
    if len(encoding) > length:
        encoding.truncate(length, direction=direction)
