"""The tokenizer that a benchmark counts and cuts prompts with."""

from __future__ import annotations

import random
from pathlib import Path

from tokenizers import Tokenizer

from octavo.errors import ConfigError
from octavo.sources.model_source import find_model

# Share of the vocabulary that random prompts are drawn from, at least.
ENOUGH = 0.05


class BenchTokenizer:
    """A `tokenizers.Tokenizer` with what data sets need: no special tokens added, random ids that are plain text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._plain_ids = _plain_ids(tokenizer)

    @classmethod
    def load(cls, name: str) -> BenchTokenizer:
        """The tokenizer of a model: hub id, folder, tokenizer.json or .gguf file.

        Raises:
            ConfigError: there is none.
        """
        path = Path(name)
        if path.suffix != ".json":
            path = _tokenizer_json(Path(find_model(name, weights=False).path))
        if not path.is_file():
            raise ConfigError(f"--tokenizer: no file {path}")
        return cls(Tokenizer.from_file(str(path)))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, nothing added."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        """Text of token ids, special tokens included."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    def random_ids(self, rng: random.Random, count: int) -> list[int]:
        """`count` random tokens (none for a negative count), no special ones among them."""
        return rng.choices(self._plain_ids, k=max(0, count))


def _plain_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids to make random prompts of: whole words if the vocabulary shows enough of them, else sound text, else any."""
    special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    ordinary = [i for i in range(tokenizer.get_vocab_size()) if i not in special]
    texts = {i: tokenizer.decode([i]) for i in ordinary}
    for accepted in (_is_word, _is_sound):
        ids = [i for i in ordinary if accepted(texts[i])]
        if len(ids) > ENOUGH * len(ordinary):
            return ids
    return ordinary


def _is_word(text: str) -> bool:
    """A word with the space before it: such neighbours do not merge when a text is tokenized again."""
    return text.startswith(" ") and text[1:].isalpha()


def _is_sound(text: str) -> bool:
    return bool(text.strip()) and "\ufffd" not in text and text.isprintable()


def _tokenizer_json(model: Path) -> Path:
    """The tokenizer.json of a model's folder, or the one converted from what the model has instead."""
    if (model / "tokenizer.json").is_file():
        return model / "tokenizer.json"
    from octavo.frontend.tokenizer_cache import converted_tokenizer

    return Path(converted_tokenizer(model)) / "tokenizer.json"
