"""What decoder-only language models have in common: a page says what a layer is, and what is unusual around the layers."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch

from octavo.cache_groups import CacheSpec
from octavo.executor.attention import AttentionMetadata, KVCache
from octavo.executor.layers.attention import Attention, AttentionShape
from octavo.executor.layers.decoder_layer import DecoderLayer
from octavo.executor.layers.embedding import LMHead, TokenEmbedding
from octavo.executor.layers.linear import Product
from octavo.executor.layers.mlp import GatedMLP
from octavo.executor.layers.norm import RMSNorm
from octavo.executor.layers.residual import Residual
from octavo.executor.models.build import Build
from octavo.executor.models.contract import HfConfig
from octavo.executor.models.generative import Generative
from octavo.kernels.program import Program, Value
from octavo.kernels.program_ops import CacheRef
from octavo.sources.layer_windows import layer_windows
from octavo.sources.rope import Rope, rope_parameters


class CausalLM(Generative):
    """A decoder over a paged KV cache: embedding, layers around a residual stream, final norm, head.

    Weights are allocated, not initialized: the loader fills `slots` and calls `finish`, part by part.

    Attributes:
        cache_specs: what each layer's cache keeps.
    """

    architecture: ClassVar[str] = ""
    """Its name in config.json, for models whose layers may have a sliding window."""
    tied: ClassVar[bool] = False
    """Whether the head uses the embedding's table where config.json does not say."""
    default_head_dim: ClassVar[int | None] = None
    """Values per head where config.json does not say; None = hidden_size / num_attention_heads."""
    norm_offset: ClassVar[float] = 0.0
    """Norms multiply by this plus their weight."""
    fused_weights: ClassVar[bool] = False
    """Whether checkpoints hold qkv_proj and gate_up_proj instead of their parts."""

    def __init__(self, config: HfConfig, build: Build) -> None:
        super().__init__()
        self.config, self.build = config, build
        vocab, hidden = config["vocab_size"], config["hidden_size"]
        tied = given(config, "tie_word_embeddings", self.tied)
        self.embedding = TokenEmbedding("model.embed_tokens", vocab, hidden, self.embedding_scale, tied, build.place)
        self.layers = [self.layer(f"model.layers.{index}", index) for index in range(config["num_hidden_layers"])]
        self.norm = self.rms_norm("model.norm")
        own = None if tied else Product(hidden, vocab, False, build.place, "head")
        self.head = LMHead("lm_head", self.embedding, own, self.logit_scale, self.logit_soft_cap)
        self.cache_specs: Sequence[CacheSpec] = [layer.attention.cache_spec for layer in self.layers]

    @abc.abstractmethod
    def layer(self, name: str, index: int) -> DecoderLayer:
        """One layer, whose weights' names in the checkpoint begin with `name`."""

    @property
    def embedding_scale(self) -> float:
        """Factor of embeddings."""
        return 1.0

    @property
    def logit_scale(self) -> float:
        """Factor of logits."""
        return 1.0

    @property
    def logit_soft_cap(self) -> float:
        """Bound that logits approach; 0 = none."""
        return 0.0

    @cached_property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return int(self.config["hidden_size"])

    @cached_property
    def head_dim(self) -> int:
        """Values per attention head."""
        size = self.config.get("head_dim") or self.default_head_dim
        return int(size or self.hidden_size // self.config["num_attention_heads"])

    @cached_property
    def rope(self) -> Rope | None:
        """Position embedding of the layers, where all have one."""
        return rope_parameters(self.config)

    @cached_property
    def windows(self) -> tuple[int, ...]:
        """Keys that a query of each layer sees; 0 = all."""
        return layer_windows(self.config, self.architecture)

    @property
    def attention_scale(self) -> float:
        """Factor of attention's scores."""
        return float(self.head_dim**-0.5)

    @property
    def activation(self) -> str:
        """Name of the feed-forward block's activation."""
        return self.config.get("hidden_act") or "silu"

    def attention(self, name: str, rope: Rope | None, **shape: Any) -> Attention:
        """Attention with the sizes of config.json; further fields of `AttentionShape` by name."""
        heads = self.config["num_attention_heads"]
        full = AttentionShape(
            hidden_size=self.hidden_size,
            num_heads=heads,
            num_kv_heads=self.config.get("num_key_value_heads") or heads,
            head_dim=self.head_dim,
            scale=self.attention_scale,
            fused_qkv=self.fused_weights,
            norm_eps=self.norm_eps,
            norm_offset=self.norm_offset,
            **shape,
        )
        return Attention(name, full, self.build.rotations(rope, self.head_dim), self.build.place)

    def gated_mlp(self, name: str, bias: bool = False) -> GatedMLP:
        """The gated feed-forward block with the sizes of config.json."""
        inner = self.config["intermediate_size"]
        return GatedMLP(name, self.hidden_size, inner, self.activation, bias, self.fused_weights, self.build.place)

    def rms_norm(self, name: str) -> RMSNorm:
        """A norm of the residual stream."""
        return RMSNorm(name, self.hidden_size, self.norm_eps, self.build.place, self.norm_offset)

    @cached_property
    def norm_eps(self) -> float:
        """What norms add to the mean of squares."""
        return float(given(self.config, "rms_norm_eps", 1e-6))

    def body(self, embeddings: Value, positions: Value, caches: Sequence[CacheRef]) -> Value:
        """Record all layers: embeddings [tokens, H], positions int64 [tokens, 1] -> hidden states [tokens, H]."""
        residual = Residual(embeddings)
        for layer, cache in zip(self.layers, caches, strict=True):
            layer(residual, positions, cache)
        return residual.end(self.norm)

    def record(self, begins_with: str, layer_groups: Sequence[int]) -> Program:
        """The body: ids int64 [tokens, 1], or embeddings [tokens, H], and positions int64 [tokens, 1] to hidden states.

        Args:
            begins_with: "ids" or "embeddings".
            layer_groups: the cache group of each layer.
        """
        program = Program(f"body from {begins_with}")
        if begins_with == "ids":
            embeddings = self.embedding(program.input("ids", 1, torch.int64))
        else:
            embeddings = program.input("embeddings", self.hidden_size, self.build.place.dtype)
        positions = program.input("positions", 1, torch.int64)
        caches = [CacheRef(index, group) for index, group in enumerate(layer_groups)]
        program.outputs["hidden"] = self.body(embeddings, positions, caches)
        return program

    def forward(
        self, input_ids: torch.Tensor, positions: torch.Tensor, kv_caches: list[KVCache], attn: AttentionMetadata
    ) -> torch.Tensor:
        """See `Model.forward`."""
        return self._run("ids", input_ids, positions, kv_caches, attn)

    def forward_embeddings(
        self, embeddings: torch.Tensor, positions: torch.Tensor, kv_caches: list[KVCache], attn: AttentionMetadata
    ) -> torch.Tensor:
        """`forward` from embeddings [T, H] on."""
        return self._run("embeddings", embeddings, positions, kv_caches, attn)

    @torch.inference_mode()
    def _run(
        self,
        begins_with: Literal["ids", "embeddings"],
        begin: torch.Tensor,
        positions: torch.Tensor,
        kv_caches: list[KVCache],
        attn: AttentionMetadata,
    ) -> torch.Tensor:
        body = self._programs.get(self.record, begins_with, kv_caches, attn.layer_groups)
        return body.run({begins_with: begin, "positions": positions}, attn)["hidden"]


def given(config: HfConfig, key: str, default: Any) -> Any:
    """Like dict.get, with null counting as absent."""
    value = config.get(key)
    return default if value is None else value
