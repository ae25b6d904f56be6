"""Tokens that are more than text: found whole before anything else is cut, put around prompts, named for templates."""

from __future__ import annotations

import logging
from typing import Any

from octavo.frontend.gguf_tokenizer.vocabulary import TokenType, Vocabulary

logger = logging.getLogger(__name__)

_ROLES = {
    "bos_token": "bos",
    "eos_token": "eos",
    "unk_token": "unknown",
    "pad_token": "padding",
    "sep_token": "seperator",
    "cls_token": "cls",
    "mask_token": "mask",
}
"""Names in tokenizer_config.json -> GGUF's."""
_TAKE_SPACE_BEFORE = {
    "jina-v2-de": "<mask>", "jina-v2-es": "<mask>", "jina-v2-code": "<mask>", "nomic-bert-moe": "<mask>", "jina-bert-v3": "<mask>",
    "modern-bert": "[MASK]",
}  # fmt: skip
"""`pre`, architecture or name of a model -> a token that swallows the space before it; GGUF has no place to say so."""
_PHI3_KEEPS_SPACE = ("<unk>", "<s>", "<|endoftext|>")


def added_tokens(vocabulary: Vocabulary, spellings: list[str]) -> list[dict[str, Any]]:
    """The `added_tokens` of tokenizer.json: control, user-defined and unknown tokens, one id each.

    Args:
        vocabulary: of the file.
        spellings: how the tokens are written in tokenizer.json, by id.
    """
    lstrip, rstrip = _space_before(vocabulary), _space_after(vocabulary)
    return [
        {
            "id": i,
            "content": spellings[i],
            "single_word": False,
            "lstrip": spellings[i] in lstrip,
            "rstrip": i in rstrip,
            "normalized": False,
            "special": vocabulary.types[i] != TokenType.USER_DEFINED,
        }
        for i in vocabulary.ids_of_type(TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
    ]


def named_tokens(vocabulary: Vocabulary, spellings: list[str]) -> dict[str, str]:
    """bos_token, eos_token, ... as tokenizer_config.json names them."""
    ids = {name: vocabulary.special_id(role) for name, role in _ROLES.items()}
    return {name: spellings[i] for name, i in ids.items() if i is not None}


def around_prompts(
    vocabulary: Vocabulary, spellings: list[str], before: tuple[str, bool], after: tuple[str, bool]
) -> dict[str, Any] | None:
    """The post-processor that puts a token before and after each prompt; None where it would put none.

    Args:
        vocabulary: of the file.
        spellings: how the tokens are written in tokenizer.json, by id.
        before: role of the first token (bos, cls), and whether it is wanted.
        after: the same for the last.
    """
    first, last = (_wanted(vocabulary, *end) for end in (before, after))
    if first is None and last is None:
        return None
    single = [*_piece(spellings, first), {"Sequence": {"id": "A", "type_id": 0}}, *_piece(spellings, last)]
    special = {spellings[i]: {"id": spellings[i], "ids": [i], "tokens": [spellings[i]]} for i in (first, last) if i is not None}
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}, *_piece(spellings, last)]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


def _wanted(vocabulary: Vocabulary, role: str, wanted: bool) -> int | None:
    if not wanted:
        return None
    token_id = vocabulary.special_id(role)
    if token_id is None:
        logger.warning("%s wants a %s token around prompts but names none: prompts go without", vocabulary.file.path, role)
    return token_id


def _piece(spellings: list[str], token_id: int | None) -> list[dict[str, Any]]:
    return [] if token_id is None else [{"SpecialToken": {"id": spellings[token_id], "type_id": 0}}]


def _space_before(vocabulary: Vocabulary) -> frozenset[str]:
    names = (vocabulary.pre or "", vocabulary.file.architecture, _model_name(vocabulary))
    return frozenset(token for part, token in _TAKE_SPACE_BEFORE.items() if any(part in name for name in names))


def _space_after(vocabulary: Vocabulary) -> frozenset[int]:
    """Phi-3's turns swallow the white space behind their tokens."""
    if not any(part in _model_name(vocabulary) for part in ("phi-3", "phi3")):
        return frozenset()
    ids = vocabulary.ids_of_type(TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
    return frozenset(i for i in ids if vocabulary.tokens[i] not in _PHI3_KEEPS_SPACE)


def _model_name(vocabulary: Vocabulary) -> str:
    return str(vocabulary.file.metadata.get("general.name", "")).lower()
