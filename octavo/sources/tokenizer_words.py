"""Ids of single words of a vocabulary, read from tokenizer.json without loading a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from octavo.errors import ConfigError
from octavo.strict_json import read_bytes

_LARGEST = 64 << 20
"""Bytes of tokenizer.json."""


class _Added(msgspec.Struct):
    id: int
    content: str


class _Model(msgspec.Struct):
    vocab: dict[str, int]


class _Tokenizer(msgspec.Struct):
    model: _Model
    added_tokens: list[_Added] = []


def word_ids(folder: Path, words: Sequence[str]) -> list[int]:
    """Ids of words that are one token each, as the vocabulary spells them.

    Raises:
        ConfigError: the file is missing or of another kind, or a word is no token; names it.
    """
    path = folder / "tokenizer.json"
    try:
        tokenizer = msgspec.json.decode(read_bytes(path, _LARGEST), type=_Tokenizer)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path} has no vocabulary of words: {error}") from error
    vocabulary = tokenizer.model.vocab | {added.content: added.id for added in tokenizer.added_tokens}
    for word in words:
        if word not in vocabulary:
            raise ConfigError(f"{path}: {word!r} is no token of the vocabulary")
    return [vocabulary[word] for word in words]
