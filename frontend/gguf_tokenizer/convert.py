"""A GGUF file's tokenizer as the files that `Tokenizer.from_folder` reads."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import tokenizers

from octavo.errors import ConfigError
from octavo.frontend.gguf_tokenizer.byte_pair import byte_pair
from octavo.frontend.gguf_tokenizer.pre_tokenizers import PRE_TOKENIZERS
from octavo.frontend.gguf_tokenizer.sentencepiece import scored_pairs, unigram
from octavo.frontend.gguf_tokenizer.special_tokens import added_tokens, named_tokens
from octavo.frontend.gguf_tokenizer.vocabulary import Vocabulary
from octavo.frontend.gguf_tokenizer.word_piece import spellings, word_piece
from octavo.sources.gguf_file import GGUFFile

logger = logging.getLogger(__name__)

_BYTE_PAIR = "gpt2"
_MODELS = {_BYTE_PAIR: byte_pair, "gemma4": byte_pair, "llama": scored_pairs, "t5": unigram}
_BERT = "bert"
_TEMPLATE = "tokenizer.chat_template"


def convert_gguf(file: GGUFFile, target: Path) -> None:
    """Write tokenizer.json, its settings and the chat templates into the folder `target`.

    Raises:
        ConfigError: the file's tokenizer is of a kind not known here, or damaged.
    """
    vocabulary = Vocabulary.read(file)
    written = spellings(vocabulary) if vocabulary.model == _BERT else vocabulary.tokens
    text = json.dumps(_tokenizer(vocabulary, written), ensure_ascii=False)
    try:
        tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exception for whatever it cannot make sense of
        raise ConfigError(f"{file.path}: the tokenizer in the file is not usable: {error}") from error
    (target / "tokenizer.json").write_text(text, encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **named_tokens(vocabulary, written),
    }
    (target / "tokenizer_config.json").write_text(json.dumps(settings, ensure_ascii=False, indent=2), encoding="utf-8")
    _write_templates(file, target)


def warn_of_unknown(file: GGUFFile) -> None:
    """Say at every start when the file does not tell how its tokenizer cuts text, or in a way that is not known here."""
    if file.metadata.get("tokenizer.ggml.model") != _BYTE_PAIR:
        return
    pre = file.metadata.get("tokenizer.ggml.pre")
    if not pre:
        logger.warning(
            "%s does not say how its tokenizer cuts text (tokenizer.ggml.pre is missing): a common way is taken, and answers "
            "may be worse for it. Convert the model again, or name its tokenizer with --tokenizer.", file.path
        )  # fmt: skip
    elif pre not in PRE_TOKENIZERS:
        logger.warning(
            "%s says tokenizer.ggml.pre = %r, which is not known here: a common way to cut text is taken, and answers may be "
            "worse for it. Name the model's tokenizer with --tokenizer.", file.path, pre
        )  # fmt: skip


def _tokenizer(vocabulary: Vocabulary, written: list[str]) -> dict[str, Any]:
    if vocabulary.model == _BERT:
        parts = word_piece(vocabulary, written)
    elif vocabulary.model in _MODELS:
        parts = _MODELS[vocabulary.model](vocabulary)
    else:
        raise ConfigError(
            f"{vocabulary.file.path}: tokenizer.ggml.model is {vocabulary.model!r}; known are "
            f"{', '.join(sorted((*_MODELS, _BERT)))}. Name the model's tokenizer with --tokenizer."
        )
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens(vocabulary, written),
        **parts,
    }


def _write_templates(file: GGUFFile, target: Path) -> None:
    template = file.metadata.get(_TEMPLATE)
    if isinstance(template, str):
        (target / "chat_template.jinja").write_text(template, encoding="utf-8")
    prefix = _TEMPLATE + "."
    named = {key.removeprefix(prefix): text for key, text in file.metadata.items() if key.startswith(prefix)}
    for name, text in named.items():
        if isinstance(text, str) and name.isidentifier():
            folder = target / "additional_chat_templates"
            folder.mkdir(exist_ok=True)
            (folder / f"{name}.jinja").write_text(text, encoding="utf-8")
