"""Text to token ids and back, over the `tokenizers` library alone.

What transformers would do with `tokenizer_config.json` beyond `tokenizer.json` (extra special tokens, named ones, chat
templates) is done here, so that a server starts without importing it. Whether BOS and EOS are added to prompts is, as in
transformers 5, up to `tokenizer.json` alone. A tokenizer that has none (GGUF file, SentencePiece model) is converted once
(`tokenizer_cache.py`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from octavo.config import ModelConfig
from octavo.errors import ConfigError
from octavo.frontend.detokenizer import DetokenizerFactory

logger = logging.getLogger(__name__)

_NAMED_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
_SHRINKING_MARGIN = 16
"""Characters a token may stand for beyond its own length when normalization or unknown tokens can swallow text."""


class Tokenizer:
    """A model's tokenizer.

    Attributes:
        chat_templates: template sources by name; "default" is the one used without a name.
        special_tokens: bos_token, eos_token, ... as templates see them.
        detokenizers: makes the incremental detokenizer of a sequence.
    """

    def __init__(self, backend: tokenizers.Tokenizer, settings: Mapping[str, Any], chat_templates: Mapping[str, str]) -> None:
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self.chat_templates = dict(chat_templates)
        _add_configured_tokens(backend, settings)
        self.special_tokens = _named_special_tokens(settings)
        self._special_ids = frozenset(i for i, t in backend.get_added_tokens_decoder().items() if t.special)
        self._added_ids = frozenset(backend.get_added_tokens_decoder())
        self.detokenizers = DetokenizerFactory(backend, self._special_ids, self._added_ids)
        self._token_texts: dict[int, str] = {}

    @classmethod
    def from_folder(cls, folder: str | Path) -> Tokenizer:
        """Read tokenizer.json and, where there, tokenizer_config.json, special_tokens_map.json and chat templates.

        Raises:
            ConfigError: tokenizer.json is missing or malformed.
        """
        folder = Path(folder)
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ConfigError(f"no tokenizer.json in {folder}; name a tokenizer with --tokenizer or use --skip-tokenizer-init")
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for every malformed file
            raise ConfigError(f"cannot read {path}: {error}") from error
        settings = {**_read_json(folder / "special_tokens_map.json"), **_read_json(folder / "tokenizer_config.json")}
        return cls(backend, settings, _read_chat_templates(folder, settings))

    @property
    def backend(self) -> tokenizers.Tokenizer:
        """The library's own object, for what this class does not offer."""
        return self._backend

    @cached_property
    def vocab_size(self) -> int:
        """Ids the tokenizer knows, added tokens included; the model's may be larger (padding)."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    @property
    def chat_template(self) -> str | None:
        """Source of the default chat template, None when the model has none."""
        return self.chat_templates.get("default")

    @cached_property
    def bos_token_id(self) -> int | None:
        return self._named_id("bos_token")

    @cached_property
    def eos_token_id(self) -> int | None:
        return self._named_id("eos_token")

    @cached_property
    def pad_token_id(self) -> int | None:
        return self._named_id("pad_token")

    @property
    def all_special_ids(self) -> frozenset[int]:
        """Ids that `skip_special_tokens` leaves out of text."""
        return self._special_ids

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text; the interpreter lock is released meanwhile."""
        if len(text) < 1000:
            return self._backend.encode(text, add_special_tokens=add_special_tokens).ids
        # encode_batch_fast tracks no offsets: half the time on a long text.
        return self._backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids

    def plain_encoding(self, text: str) -> tokenizers.Encoding:
        """A text's tokens without special ones, in the library's form, which can be cut and joined to prompts."""
        return self._backend.encode_batch_fast([text], add_special_tokens=False)[0]

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Text of token ids; ids outside the vocabulary have none."""
        return self._backend.decode(list(token_ids), skip_special_tokens=skip_special_tokens)

    def id_to_token(self, token_id: int) -> str | None:
        """The vocabulary's own spelling ("Ġhello", "▁hello", "<0x0A>"); None outside the vocabulary."""
        return self._backend.id_to_token(token_id)

    def token_to_id(self, token: str) -> int | None:
        return self._backend.token_to_id(token)

    def token_text(self, token_id: int) -> str:
        """Text of one token in the middle of a text (a leading space is kept); U+FFFD for a part of a character."""
        text = self._token_texts.get(token_id)
        if text is None:
            text = self._token_texts[token_id] = self.detokenizers.token_bytes(token_id).decode("utf-8", "replace")
        return text

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes of one token in the middle of a text; part of a UTF-8 character where the token is one."""
        return self.detokenizers.token_bytes(token_id)

    @cached_property
    def max_chars_per_token(self) -> int:
        """No prompt of n tokens is longer than n times this, in characters."""
        longest = max(map(len, self._backend.get_vocab(with_added_tokens=True)), default=1)
        return longest if _keeps_every_character(self._backend) else longest * _SHRINKING_MARGIN

    def _named_id(self, name: str) -> int | None:
        token = self.special_tokens.get(name)
        return None if token is None else self._backend.token_to_id(token)


def shares(lengths: list[int], room: int) -> list[int]:
    """How much of each of one or two texts fits: the longer of two is cut first, then both equally."""
    if len(lengths) == 1 or sum(lengths) <= room:
        return [min(length, room) for length in lengths]
    shorter = min(*lengths, room // 2)
    return [shorter, room - shorter] if lengths[0] <= lengths[1] else [room - shorter, shorter]


def load_tokenizer(config: ModelConfig) -> Tokenizer:
    """The tokenizer at `config.tokenizer_path`, converted first where it is a GGUF file or has no tokenizer.json.

    Raises:
        ConfigError: there is none, or it cannot be converted.
    """
    path = Path(config.tokenizer_path)
    if path.is_dir() and (path / "tokenizer.json").is_file():
        return Tokenizer.from_folder(path)
    from octavo.frontend.tokenizer_cache import converted_tokenizer

    return Tokenizer.from_folder(converted_tokenizer(path))


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return value if isinstance(value, dict) else {}


def _read_chat_templates(folder: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """Templates by name: files win over tokenizer_config.json, as in transformers."""
    templates: dict[str, str] = {}
    own = settings.get("chat_template")
    if isinstance(own, str):
        templates["default"] = own
    elif isinstance(own, list):
        templates.update({entry["name"]: entry["template"] for entry in own})
    old_style = _read_json(folder / "chat_template.json").get("chat_template")
    if isinstance(old_style, str):
        templates["default"] = old_style
    for path in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        templates[path.stem] = path.read_text(encoding="utf-8")
    if (folder / "chat_template.jinja").is_file():
        templates["default"] = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    return templates


def _token_content(value: Any) -> str | None:
    """A special token is written as a string or as {"content": ...}."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _named_special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    named = {name: _token_content(settings.get(name)) for name in _NAMED_SPECIAL_TOKENS}
    extra = settings.get("extra_special_tokens")
    if isinstance(extra, dict):
        named.update({name: _token_content(value) for name, value in extra.items()})
    return {name: token for name, token in named.items() if token is not None}


def _add_configured_tokens(backend: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> None:
    """Tokens that only tokenizer_config.json knows, at the ids it gives them."""
    entries = settings.get("added_tokens_decoder")
    if not isinstance(entries, dict):
        return
    for token_id, entry in sorted((int(key), entry) for key, entry in entries.items()):
        known = backend.token_to_id(entry["content"])
        if known is None and token_id != backend.get_vocab_size(with_added_tokens=True):
            logger.warning(
                "tokenizer_config.json puts %r at id %d, which is not the next free one; left out", entry["content"], token_id
            )
            continue
        flags = {name: bool(entry[name]) for name in ("single_word", "lstrip", "rstrip", "normalized") if name in entry}
        token = tokenizers.AddedToken(entry["content"], special=bool(entry.get("special", False)), **flags)
        if known is None or token.special:
            (backend.add_special_tokens if token.special else backend.add_tokens)([token])


def _keeps_every_character(backend: tokenizers.Tokenizer) -> bool:
    """Whether each character of a text ends up in some token: byte-level, or BPE with byte fallback and plain replacing."""
    state = json.loads(backend.to_str()) if backend.normalizer is not None else {"normalizer": None}
    decoder = json.loads(backend.decoder.__getstate__()) if backend.decoder is not None else {}
    kinds = {step["type"] for step in decoder.get("decoders", [decoder]) if "type" in step}
    if not kinds & {"ByteLevel", "ByteFallback"}:
        return False
    normalizer = state["normalizer"]
    steps = [] if normalizer is None else normalizer.get("normalizers", [normalizer])
    return all(step["type"] in ("Prepend", "ByteLevel") or _keeps_length(step) for step in steps)


def _keeps_length(step: Mapping[str, Any]) -> bool:
    pattern = step.get("pattern", {}).get("String") if step["type"] == "Replace" else None
    return pattern is not None and len(step["content"]) >= len(pattern)
