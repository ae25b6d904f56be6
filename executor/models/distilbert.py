"""DistilBERT, an encoder: https://arxiv.org/abs/1910.01108."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from octavo.executor.attention import AttentionMetadata
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

_EPS = 1e-12


class DistilBert(Encoder):
    """DistilBERT: BERT without token types, under other names."""

    prefix: ClassVar[str] = ""
    unused_weights: Sequence[str] = ("vocab_", "embeddings.position_ids", "distilbert.embeddings.position_ids")

    def __init__(self, config: HfConfig, build: Build) -> None:
        super().__init__()
        hidden, place, base = config["hidden_size"], build.place, f"{self.prefix}embeddings"
        self.device = place.device
        self.words = TokenEmbedding(f"{base}.word_embeddings", config["vocab_size"], hidden, 1.0, False, place)
        places = config["max_position_embeddings"]
        self.positions = TokenEmbedding(f"{base}.position_embeddings", places, hidden, 1.0, False, place)
        self.norm = LayerNorm(f"{base}.LayerNorm", hidden, _EPS, place)
        names = (f"{self.prefix}transformer.layer.{index}" for index in range(config["num_hidden_layers"]))
        self.layers = [DistilBertLayer(name, config, build) for name in names]

    def body(self, program: Program) -> None:
        """See `Encoder.body`."""
        ids, positions = (program.input(each, 1, torch.int64) for each in ("ids", "positions"))
        x = self.norm(add(self.words(ids), self.positions(positions)))
        for layer in self.layers:
            x = layer(x)
        program.outputs["hidden"] = x

    def inputs(self, input_ids: torch.Tensor, positions: torch.Tensor, _attn: AttentionMetadata) -> dict[str, torch.Tensor]:
        """See `Encoder.inputs`."""
        return {"ids": input_ids, "positions": positions}


class DistilBertLayer(Module):
    """Attention and a feed-forward block, each followed by the norm of its sum with what went in."""

    def __init__(self, name: str, config: HfConfig, build: Build) -> None:
        hidden, inner, place = config["hidden_size"], config["intermediate_size"], build.place
        self.head_dim = hidden // config["num_attention_heads"]
        self.activation = ACTIVATIONS[config["hidden_act"]]
        self.qkv = ColumnLinear(hidden, {f"{name}.attention.{part}_lin": hidden for part in "qkv"}, True, place, "qkv")
        self.out = RowLinear(f"{name}.attention.out_lin", hidden, hidden, True, place, "out")
        self.attention_norm = LayerNorm(f"{name}.sa_layer_norm", hidden, _EPS, place)
        self.up = ColumnLinear(hidden, {f"{name}.ffn.lin1": inner}, True, place, "up")
        self.down = RowLinear(f"{name}.ffn.lin2", inner, hidden, True, place, "down")
        self.norm = LayerNorm(f"{name}.output_layer_norm", hidden, _EPS, place)

    def __call__(self, x: Value) -> Value:
        """Record the layer: [tokens, H] -> [tokens, H]."""
        q, k, v = split(self.qkv(x), x.width, x.width, x.width)
        x = self.attention_norm(x, add=self.out(attend_fresh(q, k, v, self.head_dim, self.head_dim**-0.5)))
        return self.norm(x, add=self.down(activate(self.up(x), self.activation)))


class DistilBertForMaskedLM(DistilBert):
    """DistilBERT that was trained to fill in words, without the head for that."""

    prefix = "distilbert."


class DistilBertForSequenceClassification(DistilBert):
    """DistilBERT with a classifier over the first token, and a layer of its own between."""

    prefix = "distilbert."

    def __init__(self, config: HfConfig, build: Build) -> None:
        super().__init__(config, build)
        hidden = config["hidden_size"]
        self.pre_classifier = VectorLinear("pre_classifier", hidden, hidden, self.device)
        self.classifier = VectorLinear("classifier", hidden, config["num_labels"], self.device)

    def classify(self, vectors: torch.Tensor) -> torch.Tensor:
        """See `Classifier.classify`."""
        return self.classifier(torch.relu(self.pre_classifier(vectors)))


class DistilBertForTokenClassification(DistilBert):
    """DistilBERT with a classifier of each token."""

    prefix = "distilbert."

    def __init__(self, config: HfConfig, build: Build) -> None:
        super().__init__(config, build)
        self.classifier = VectorLinear("classifier", config["hidden_size"], config["num_labels"], self.device)

    def classify(self, vectors: torch.Tensor) -> torch.Tensor:
        """See `Classifier.classify`."""
        return self.classifier(vectors)
