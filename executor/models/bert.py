"""BERT: https://arxiv.org/abs/1810.04805."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from octavo.cache_groups import CacheSpec
from octavo.executor.attention import AttentionMetadata
from octavo.executor.layers.embedding import TokenEmbedding
from octavo.executor.layers.functional import ACTIVATIONS, activate, add, attend_fresh, split
from octavo.executor.layers.linear import ColumnLinear, RowLinear
from octavo.executor.layers.module import Module
from octavo.executor.layers.norm import LayerNorm
from octavo.executor.models.build import Build
from octavo.executor.models.contract import HfConfig
from octavo.executor.models.programs import Programs
from octavo.kernels.program import Program, Value


class Bert(Module):
    """BERT: an encoder whose tokens see each other both ways, with norms behind the blocks and no cache."""

    cache_specs: Sequence[CacheSpec] = ()

    def __init__(self, config: HfConfig, build: Build) -> None:
        hidden, place = config["hidden_size"], build.place

        def table(name: str, rows: int) -> TokenEmbedding:
            return TokenEmbedding(f"embeddings.{name}_embeddings", rows, hidden, 1.0, False, place)

        self.words = table("word", config["vocab_size"])
        self.positions = table("position", config["max_position_embeddings"])
        self.types = table("token_type", config["type_vocab_size"])
        self.norm = LayerNorm("embeddings.LayerNorm", hidden, config["layer_norm_eps"], place)
        self.layers = [BertLayer(f"encoder.layer.{index}", config, build) for index in range(config["num_hidden_layers"])]
        self._programs = Programs()

    def parts(self) -> Iterator[Module]:
        """See `Model.parts`."""
        return self.children()

    def record(self, name: str, _layer_groups: Sequence[int] = ()) -> Program:
        """The body: ids, positions and token types, int64 [tokens, 1], to hidden states [tokens, H]."""
        program = Program(name)
        ids, positions, types = (program.input(each, 1, torch.int64) for each in ("ids", "positions", "types"))
        x = self.norm(add(add(self.words(ids), self.types(types)), self.positions(positions)))
        for layer in self.layers:
            x = layer(x)
        program.outputs["hidden"] = x
        return program

    @torch.inference_mode()
    def forward(
        self, input_ids: torch.Tensor, positions: torch.Tensor, token_types: torch.Tensor, attn: AttentionMetadata
    ) -> torch.Tensor:
        """Hidden states [T, H] of ids int64 [T], whose requests' tokens are all there."""
        inputs = {"ids": input_ids, "positions": positions, "types": token_types}
        return self._programs.get(self.record, "body", [], ()).run(inputs, attn)["hidden"]


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
