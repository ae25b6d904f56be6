"""BERT, an encoder: https://arxiv.org/abs/1810.04805; and RoBERTa, https://arxiv.org/abs/1907.11692."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from octavo.executor.attention import AttentionMetadata, RowInputs
from octavo.executor.layers.classifier import VectorLinear
from octavo.executor.layers.embedding import TokenEmbedding
from octavo.executor.layers.functional import ACTIVATIONS, activate, add, attend_fresh, split
from octavo.executor.layers.linear import ColumnLinear, RowLinear
from octavo.executor.layers.module import Module
from octavo.executor.layers.norm import LayerNorm
from octavo.executor.models.build import Build
from octavo.executor.models.contract import HfConfig
from octavo.executor.models.encoder import Encoder
from octavo.kernels.program import Program, Value

TOKEN_TYPES = "token_types"
"""What a pair of texts brings: int64 [tokens], 0 of the first one and 1 of the second."""


class Bert(Encoder):
    """BERT, which reads a text whole; its hidden states are pooled."""

    prefix: ClassVar[str] = ""
    """Of the weights' names."""
    row_inputs: Sequence[str] = (TOKEN_TYPES,)
    unused_weights: Sequence[str] = (
        "embeddings.position_ids",
        "pooler.",
        "bert.embeddings.position_ids",
        "bert.pooler.",
        "cls.",
    )

    def __init__(self, config: HfConfig, build: Build) -> None:
        super().__init__()
        hidden, place = config["hidden_size"], build.place
        self.config, self.device = config, place.device
        self.num_types = config["type_vocab_size"]

        def table(name: str, rows: int) -> TokenEmbedding:
            return TokenEmbedding(f"{self.prefix}embeddings.{name}_embeddings", rows, hidden, 1.0, False, place)

        self.words = table("word", config["vocab_size"])
        self.positions = table("position", config["max_position_embeddings"])
        self.types = table("token_type", self.num_types)
        self.norm = LayerNorm(f"{self.prefix}embeddings.LayerNorm", hidden, config["layer_norm_eps"], place)
        names = (f"{self.prefix}encoder.layer.{index}" for index in range(config["num_hidden_layers"]))
        self.layers = [BertLayer(name, config, build) for name in names]

    def body(self, program: Program) -> None:
        """See `Encoder.body`."""
        ids, positions, types = (program.input(each, 1, torch.int64) for each in ("ids", "positions", "types"))
        x = self.norm(add(add(self.words(ids), self.types(types)), self.positions(positions)))
        for layer in self.layers:
            x = layer(x)
        program.outputs["hidden"] = x

    def inputs(self, input_ids: torch.Tensor, positions: torch.Tensor, attn: AttentionMetadata) -> dict[str, torch.Tensor]:
        """See `Encoder.inputs`."""
        return {"ids": input_ids, "positions": positions, "types": _types(input_ids, attn)}

    def check_inputs(self, inputs: RowInputs) -> None:
        """See `Model.check_inputs`."""
        super().check_inputs(inputs)
        types = inputs.get(TOKEN_TYPES)
        if types is not None and (
            types.dtype != torch.int64 or types.dim() != 1 or not 0 <= types.min() <= types.max() < self.num_types
        ):
            raise ValueError(f"{TOKEN_TYPES} must be integers from 0 to {self.num_types - 1}, one for each token")


def _types(input_ids: torch.Tensor, attn: AttentionMetadata) -> torch.Tensor:
    """Token types of a step: zeros but for those that requests bring."""
    types = torch.zeros_like(input_ids)
    for row, inputs in enumerate(attn.row_inputs):
        if TOKEN_TYPES in inputs:
            start, stop = int(attn.query_starts[row]), int(attn.query_starts[row + 1])
            types[start:stop] = inputs[TOKEN_TYPES]
    return types


class BertLayer(Module):
    """Attention and a feed-forward block, each followed by the norm of its sum with what went in."""

    def __init__(self, name: str, config: HfConfig, build: Build) -> None:
        hidden, inner, eps, place = config["hidden_size"], config["intermediate_size"], config["layer_norm_eps"], build.place
        self.head_dim = hidden // config["num_attention_heads"]
        self.activation = ACTIVATIONS[config["hidden_act"]]
        parts = {f"{name}.attention.self.{part}": hidden for part in ("query", "key", "value")}
        self.qkv = ColumnLinear(hidden, parts, True, place, "qkv")
        self.out = RowLinear(f"{name}.attention.output.dense", hidden, hidden, True, place, "out")
        self.attention_norm = LayerNorm(f"{name}.attention.output.LayerNorm", hidden, eps, place)
        self.up = ColumnLinear(hidden, {f"{name}.intermediate.dense": inner}, True, place, "up")
        self.down = RowLinear(f"{name}.output.dense", inner, hidden, True, place, "down")
        self.norm = LayerNorm(f"{name}.output.LayerNorm", hidden, eps, place)

    def __call__(self, x: Value) -> Value:
        """Record the layer: [tokens, H] -> [tokens, H]."""
        q, k, v = split(self.qkv(x), x.width, x.width, x.width)
        attended = attend_fresh(q, k, v, self.head_dim, self.head_dim**-0.5)
        x = self.attention_norm(x, add=self.out(attended))
        return self.norm(x, add=self.down(activate(self.up(x), self.activation)))


class BertForMaskedLM(Bert):
    """BERT that was trained to fill in words, without the head for that."""

    prefix = "bert."


class BertForSequenceClassification(Bert):
    """BERT with a classifier over the first token, behind the pooler."""

    prefix = "bert."
    unused_weights = ("bert.embeddings.position_ids",)

    def __init__(self, config: HfConfig, build: Build) -> None:
        super().__init__(config, build)
        hidden = config["hidden_size"]
        self.pooler = VectorLinear("bert.pooler.dense", hidden, hidden, self.device)
        self.classifier = VectorLinear("classifier", hidden, config["num_labels"], self.device)

    def classify(self, vectors: torch.Tensor) -> torch.Tensor:
        """See `Classifier.classify`."""
        return self.classifier(torch.tanh(self.pooler(vectors)))


class BertForTokenClassification(Bert):
    """BERT with a classifier of each token."""

    prefix = "bert."
    unused_weights = ("bert.embeddings.position_ids", "bert.pooler.")

    def __init__(self, config: HfConfig, build: Build) -> None:
        super().__init__(config, build)
        self.classifier = VectorLinear("classifier", config["hidden_size"], config["num_labels"], self.device)

    def classify(self, vectors: torch.Tensor) -> torch.Tensor:
        """See `Classifier.classify`."""
        return self.classifier(vectors)


class Roberta(Bert):
    """RoBERTa and XLM-R: BERT whose positions begin behind the padding token's, and count no padding tokens."""

    unused_weights = ("embeddings.position_ids", "pooler.", "roberta.embeddings.position_ids", "roberta.pooler.", "lm_head.")

    def inputs(self, input_ids: torch.Tensor, positions: torch.Tensor, attn: AttentionMetadata) -> dict[str, torch.Tensor]:
        """See `Encoder.inputs`."""
        padding = self.config["pad_token_id"]
        real = input_ids != padding
        places = positions + 1 if bool(real.all()) else _counted(real, attn)
        return super().inputs(input_ids, places + padding, attn)


def _counted(real: torch.Tensor, attn: AttentionMetadata) -> torch.Tensor:
    """Of each token that is no padding its number in the request, from 1 on; 0 of the others."""
    counted = real.cumsum(0)
    before = torch.cat([counted.new_zeros(1), counted])[attn.query_starts[:-1].long()]
    lengths = (attn.query_starts[1:] - attn.query_starts[:-1]).long()
    return (counted - before.repeat_interleave(lengths)) * real


class RobertaForMaskedLM(Roberta):
    """RoBERTa or XLM-R that was trained to fill in words, without the head for that."""

    prefix = "roberta."


class RobertaForSequenceClassification(Roberta):
    """RoBERTa or XLM-R with a classifier over the first token, and a layer of its own between."""

    prefix = "roberta."

    def __init__(self, config: HfConfig, build: Build) -> None:
        super().__init__(config, build)
        hidden = config["hidden_size"]
        self.dense = VectorLinear("classifier.dense", hidden, hidden, self.device)
        self.out_proj = VectorLinear("classifier.out_proj", hidden, config["num_labels"], self.device)

    def classify(self, vectors: torch.Tensor) -> torch.Tensor:
        """See `Classifier.classify`."""
        return self.out_proj(torch.tanh(self.dense(vectors)))


class RobertaForTokenClassification(Roberta):
    """RoBERTa or XLM-R with a classifier of each token."""

    prefix = "roberta."

    def __init__(self, config: HfConfig, build: Build) -> None:
        super().__init__(config, build)
        self.classifier = VectorLinear("classifier", config["hidden_size"], config["num_labels"], self.device)

    def classify(self, vectors: torch.Tensor) -> torch.Tensor:
        """See `Classifier.classify`."""
        return self.classifier(vectors)
