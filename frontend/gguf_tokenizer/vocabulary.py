"""What a GGUF file says of its tokenizer, read whole and checked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

from octavo.errors import ConfigError
from octavo.sources.gguf_arrays import read_numbers, read_strings
from octavo.sources.gguf_file import GGUFFile

_PREFIX = "tokenizer.ggml."
_LOOK_LIKE_CONTROL = frozenset({
    "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<EOT>", "_<EOT>",
    "[EOT]", "<\uff5cend\u2581of\u2581sentence\uff5c>", "<end_of_utterance>",
    "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<\uff5cfim\u2581begin\uff5c>", "<PRE>", "\u2581<PRE>", "<|code_prefix|>",
    "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<\uff5cfim\u2581hole\uff5c>", "<SUF>", "\u2581<SUF>", "<|code_suffix|>",
    "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<\uff5cfim\u2581end\uff5c>", "<MID>", "\u2581<MID>", "<|code_middle|>",
    "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<reponame>", "<|file_sep|>",
})  # fmt: skip
"""Converters of some models forgot to say that these are control tokens."""
_DEFAULT_IDS: dict[str, dict[str, int]] = {
    "llama": {"bos": 1, "eos": 2, "unknown": 0},
    "bert": {"bos": 101, "unknown": 100, "seperator": 102, "padding": 0, "mask": 103},
    "t5": {"eos": 1, "unknown": 2, "padding": 0},
}
"""Ids that a file need not give, by tokenizer model; the keys are GGUF's, misspelled as they are there."""


class TokenType(IntEnum):
    """`tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Vocabulary:
    """A GGUF file's tokens and flags.

    Attributes:
        model: `tokenizer.ggml.model`: gpt2, llama, bert, t5, ...
        pre: `tokenizer.ggml.pre`; None where the file does not say.
        tokens: their spelling, by id.
        types: of each token.
    """

    file: GGUFFile
    model: str
    pre: str | None
    tokens: list[str]
    types: list[int]

    @classmethod
    def read(cls, file: GGUFFile) -> Vocabulary:
        """Read it.

        Raises:
            ConfigError: there is none, or its parts do not fit together.
        """
        model = file.metadata.get(f"{_PREFIX}model")
        if not isinstance(model, str):
            raise ConfigError(f"{file.path}: no tokenizer in the file ({_PREFIX}model is missing); name one with --tokenizer")
        pre = file.metadata.get(f"{_PREFIX}pre")
        # An empty spelling could not be told from another one, and would match everywhere.
        tokens = [token or f"[EMPTY_{i}]" for i, token in enumerate(read_strings(file, f"{_PREFIX}tokens"))]
        if not tokens:
            raise ConfigError(f"{file.path}: no tokenizer in the file ({_PREFIX}tokens is missing); name one with --tokenizer")
        types = read_numbers(file, f"{_PREFIX}token_type") or [TokenType.NORMAL] * len(tokens)
        if len(types) < len(tokens):
            raise ConfigError(f"{file.path}: {_PREFIX}token_type has {len(types)} entries for {len(tokens)} tokens")
        for i, token in enumerate(tokens):
            if types[i] != TokenType.CONTROL and token in _LOOK_LIKE_CONTROL:
                types[i] = TokenType.CONTROL
        vocabulary = cls(file, model, pre if isinstance(pre, str) and pre else None, tokens, types[: len(tokens)])
        vocabulary.check_unique()
        return vocabulary

    def get(self, key: str, default: Any = None) -> Any:
        """A value under `tokenizer.ggml.`."""
        return self.file.metadata.get(_PREFIX + key, default)

    def flag(self, key: str, default: bool) -> bool:
        """A yes or no under `tokenizer.ggml.`."""
        return bool(self.get(key, default))

    def strings(self, key: str) -> list[str]:
        """An array of strings under `tokenizer.ggml.`; [] where there is none."""
        return read_strings(self.file, _PREFIX + key)

    def numbers(self, key: str) -> list[Any]:
        """An array of numbers under `tokenizer.ggml.`; [] where there is none."""
        return read_numbers(self.file, _PREFIX + key)

    def ids_of_type(self, *types: TokenType) -> list[int]:
        """Ids of all tokens of some types, ascending."""
        wanted = frozenset(types)
        return [i for i, kind in enumerate(self.types) if kind in wanted]

    @cached_property
    def scores(self) -> list[float]:
        """Of each token; all zero where the file gives none.

        Raises:
            ConfigError: there are fewer than tokens.
        """
        scores = self.numbers("scores") or [0.0] * len(self.tokens)
        if len(scores) < len(self.tokens):
            raise ConfigError(f"{self.file.path}: {_PREFIX}scores has {len(scores)} entries for {len(self.tokens)} tokens")
        return [float(score) for score in scores[: len(self.tokens)]]

    def special_id(self, name: str) -> int | None:
        """Id of a token by its role: bos, eos, unknown, padding, seperator, cls, mask; None where it has none."""
        token_id = self.get(f"{name}_token_id")
        if token_id is None and name == "seperator":
            token_id = self.get("separator_token_id")
        if token_id is None:
            token_id = _DEFAULT_IDS.get(self.model, {}).get(name)
        return token_id if isinstance(token_id, int) and 0 <= token_id < len(self.tokens) else None

    def check_unique(self) -> None:
        """Raises:
        ConfigError: two tokens are spelled the same, so that text could not say which is meant.
        """
        if len(set(self.tokens)) == len(self.tokens):
            return
        first: dict[str, int] = {}
        for i, token in enumerate(self.tokens):
            if first.setdefault(token, i) != i:
                raise ConfigError(f"{self.file.path}: tokens {first[token]} and {i} are both {token!r}")
