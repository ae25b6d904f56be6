"""`bert`: the longest pieces of each word."""

from __future__ import annotations

from typing import Any

from octavo.frontend.gguf_tokenizer.special_tokens import around_prompts
from octavo.frontend.gguf_tokenizer.vocabulary import TokenType, Vocabulary

_BLOCK = "\u2581"
_CONTINUES = "##"
_LONGEST_WORD = 100


def spellings(vocabulary: Vocabulary) -> list[str]:
    """Tokens as BERT writes them: GGUF marks where a word begins, BERT where it goes on."""
    whole = (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED)
    return [
        token if kind in whole else token[1:] if token.startswith(_BLOCK) and len(token) > 1 else _CONTINUES + token
        for token, kind in zip(vocabulary.tokens, vocabulary.types, strict=True)
    ]


def word_piece(vocabulary: Vocabulary, written: list[str]) -> dict[str, Any]:
    """The parts of tokenizer.json; `written` is from `spellings`."""
    lowercase = vocabulary.flag("normalizer.lowercase", True)
    unknown = vocabulary.special_id("unknown")
    return {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": vocabulary.flag("normalizer.strip_accents", lowercase),
            "lowercase": lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": around_prompts(vocabulary, written, ("bos", True), ("seperator", True)),
        "decoder": {"type": "WordPiece", "prefix": _CONTINUES, "cleanup": True},
        "model": {
            "type": "WordPiece",
            "vocab": {token: i for i, token in enumerate(written)},
            "unk_token": "[UNK]" if unknown is None else written[unknown],
            "continuing_subword_prefix": _CONTINUES,
            "max_input_chars_per_word": _LONGEST_WORD,
        },
    }
