"""`llama` and `t5`: SentencePiece's byte-pair and unigram models, by the scores in the file."""

from __future__ import annotations

import base64
from typing import Any

from octavo.frontend.gguf_tokenizer.byte_pair import blocks_decoder, known_merges
from octavo.frontend.gguf_tokenizer.special_tokens import around_prompts
from octavo.frontend.gguf_tokenizer.vocabulary import TokenType, Vocabulary

_BLOCK = "\u2581"
_LONGEST_PIECE = 512
"""Characters; training makes pieces of a few dozen, and a file might hold one of a million."""


def scored_pairs(vocabulary: Vocabulary) -> dict[str, Any]:
    """The parts of tokenizer.json for `llama`: neighbours that make the token with the best score are joined first."""
    prefix = vocabulary.flag("add_space_prefix", True)
    unknown = vocabulary.special_id("unknown")
    return {
        "normalizer": _sequence([*([_prepend()] if prefix else []), _replace(" ", _BLOCK)]),
        "pre_tokenizer": None,
        "post_processor": _ends(vocabulary, add_bos=True, add_eos=False),
        "decoder": blocks_decoder(strip=prefix),
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(vocabulary.tokens)},
            "merges": _merges(vocabulary),
            "unk_token": None if unknown is None else vocabulary.tokens[unknown],
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
        },
    }


def unigram(vocabulary: Vocabulary) -> dict[str, Any]:
    """The parts of tokenizer.json for `t5`: the cut with the best sum of scores."""
    prefix = vocabulary.flag("add_space_prefix", False)
    merged = vocabulary.flag("remove_extra_whitespaces", False)
    charsmap = vocabulary.numbers("precompiled_charsmap")
    steps: list[dict[str, Any]] = []
    if charsmap:
        encoded = base64.b64encode(bytes(byte & 0xFF for byte in charsmap)).decode()
        steps.append({"type": "Precompiled", "precompiled_charsmap": encoded})
    if merged:
        steps += [_strip(), {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]
    if prefix or merged:
        steps.append(_prepend())
    scores = vocabulary.scores
    user_defined = frozenset(vocabulary.ids_of_type(TokenType.USER_DEFINED))
    return {
        "normalizer": _sequence([*steps, _replace(" ", _BLOCK)]),
        "pre_tokenizer": None,
        "post_processor": _ends(vocabulary, add_bos=False, add_eos=True),
        "decoder": {"type": "Metaspace", "replacement": _BLOCK, "prepend_scheme": "always", "split": True},
        "model": {
            "type": "Unigram",
            "unk_id": vocabulary.special_id("unknown"),
            "vocab": [[token, 0.0 if i in user_defined else scores[i]] for i, token in enumerate(vocabulary.tokens)],
            "byte_fallback": False,
        },
    }


def _merges(vocabulary: Vocabulary) -> list[list[str]]:
    scores = vocabulary.scores
    if len(set(scores)) == 1 and (merges := vocabulary.strings("merges")):
        # Converted from a tokenizer.json, where scores are unknown.
        return known_merges(vocabulary, merges)
    tokens = vocabulary.tokens
    pieces = [i for i in vocabulary.ids_of_type(TokenType.NORMAL, TokenType.UNUSED) if len(tokens[i]) <= _LONGEST_PIECE]
    known = frozenset(tokens[i] for i in pieces)
    pieces.sort(key=lambda i: -scores[i])
    return [
        [left, right]
        for piece in map(tokens.__getitem__, pieces)
        for cut in range(len(piece) - 1, 0, -1)
        if (left := piece[:cut]) in known and (right := piece[cut:]) in known
    ]


def _ends(vocabulary: Vocabulary, *, add_bos: bool, add_eos: bool) -> dict[str, Any] | None:
    before = ("bos", vocabulary.flag("add_bos_token", add_bos))
    return around_prompts(vocabulary, vocabulary.tokens, before, ("eos", vocabulary.flag("add_eos_token", add_eos)))


def _sequence(steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": steps}


def _prepend() -> dict[str, Any]:
    return {"type": "Prepend", "prepend": _BLOCK}


def _replace(old: str, new: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": old}, "content": new}


def _strip() -> dict[str, Any]:
    return {"type": "Strip", "strip_left": True, "strip_right": True}
