"""What is known of encoders before their pages are: which architectures there are, and what their configurations leave unsaid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from octavo.checked import Fields

Head = Literal["none", "sequence", "tokens"]
"""What stands behind the hidden states: nothing, a classifier of the text, or one of each token."""

_BERT = {
    "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "gelu", "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """Configurations of one kind.

    Attributes:
        defaults: of keys that a config.json may leave out, as transformers has them.
        renamed: keys that have another name there -> what they are called elsewhere.
        counts_from_padding: positions begin behind the padding token's id.
    """

    defaults: Mapping[str, Any]
    renamed: Mapping[str, str] = field(default_factory=dict)
    counts_from_padding: bool = False


_FAMILIES = {
    "Bert": Family(_BERT),
    "Roberta": Family(_BERT | {"vocab_size": 50265, "pad_token_id": 1}, counts_from_padding=True),
    "XLMRoberta": Family(_BERT | {"vocab_size": 30522, "pad_token_id": 1}, counts_from_padding=True),
    "DistilBert": Family(
        _BERT | {"num_hidden_layers": 6},
        {
            "dim": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads", "hidden_dim": "intermediate_size",
            "activation": "hidden_act",
        },
    ),
}  # fmt: skip
_HEADS: dict[str, Head] = {
    "Model": "none", "ForMaskedLM": "none", "ForSequenceClassification": "sequence", "ForTokenClassification": "tokens",
}  # fmt: skip

ENCODERS: dict[str, tuple[Family, Head]] = {
    family + suffix: (facts, head) for family, facts in _FAMILIES.items() for suffix, head in _HEADS.items()
}
"""Architectures that read a text whole, by their name in config.json."""

DEFAULT_LABELS = 2
"""Classes of a classifier whose configuration does not say."""


def encoder_config(config: Mapping[str, Any], architecture: str, where: str) -> dict[str, Any]:
    """A configuration with everything said under the names that decoders have, `num_labels` included.

    Raises:
        ConfigError: `id2label` is not an object.
    """
    family, head = ENCODERS[architecture]
    whole = {**family.defaults, **{key: value for key, value in config.items() if value is not None}}
    whole |= {new: config[old] for old, new in family.renamed.items() if config.get(old) is not None}
    if head != "none":
        whole["num_labels"] = num_labels(config, where)
    return whole


def num_labels(config: Mapping[str, Any], where: str) -> int:
    """Classes that a configuration names. Raises: ConfigError: `id2label` is not an object, or `num_labels` no number."""
    fields = Fields(where, config)
    labels = fields.mapping("id2label")
    return len(labels) if labels else int(fields.integer("num_labels", 1, 1 << 20, DEFAULT_LABELS))


def encoder_length(config: Mapping[str, Any], architecture: str) -> int:
    """Tokens of the longest text, of a whole configuration."""
    family, _ = ENCODERS[architecture]
    first = config["pad_token_id"] + 1 if family.counts_from_padding else 0
    return int(config["max_position_embeddings"]) - first
