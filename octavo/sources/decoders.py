"""Decoders that do not generate: their bodies alone, and classifiers behind them. Each is a decoder that comes with Octavo, under another name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from octavo.checked import Fields
from octavo.sources.encoders import num_labels
from octavo.sources.tokenizer_words import word_ids

GENERATES = "ForCausalLM"
CLASSIFIES = "ForSequenceClassification"
BODY = "Model"
FROM_TOKENS = "classifier_from_token"
"""Key of a configuration: two words, whose difference in the head is the classifier of a model that has none of its own."""


def decoder_of(architecture: str) -> str:
    """The architecture that generates, of one that is its body or classifies; any other as it is."""
    for suffix in (CLASSIFIES, BODY):
        if architecture.endswith(suffix):
            return architecture.removesuffix(suffix) + GENERATES
    return architecture


def decoder_config(config: Mapping[str, Any], architecture: str, where: str, tokenizer: Path) -> dict[str, Any]:
    """The configuration of such a decoder: its head's weights are not there, so the embedding's stand in for them.

    Args:
        tokenizer: folder of the tokenizer whose words a classifier may be made of.

    Raises:
        ConfigError: `id2label` is not an object, or the words are none.
    """
    whole = {**config, "tie_word_embeddings": True}
    if not architecture.endswith(CLASSIFIES):
        return whole
    words = config.get(FROM_TOKENS)
    if words is None:
        return whole | {"num_labels": num_labels(config, where)}
    if not isinstance(words, list) or len(words) != 2 or not all(isinstance(word, str) for word in words):
        raise Fields(where, config).refuse(FROM_TOKENS, "two words, for no and for yes")
    return whole | {"num_labels": 1, FROM_TOKENS + "_ids": word_ids(tokenizer, words)}
