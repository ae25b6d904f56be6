"""Whisper's decoder: https://arxiv.org/abs/2212.04356."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from octavo.cache_groups import CacheSpec
from octavo.executor.attention import AttentionMetadata, KVCache
from octavo.executor.layers.embedding import LMHead, TokenEmbedding
from octavo.executor.layers.functional import ACTIVATIONS, activate, add, attend, rotate_and_keep, split, write_cache
from octavo.executor.layers.linear import ColumnLinear, RowLinear
from octavo.executor.layers.module import Module
from octavo.executor.layers.norm import LayerNorm
from octavo.executor.layers.residual import Residual
from octavo.executor.models.build import Build
from octavo.executor.models.contract import HfConfig
from octavo.executor.models.generative import Generative
from octavo.kernels.program import Program, Value
from octavo.kernels.program_ops import CacheRef


class WhisperDecoder(Generative):
    """Whisper's decoder: attention to the text so far, and to what the encoder made of the sound, whose keys are kept."""

    def __init__(self, config: HfConfig, build: Build) -> None:
        super().__init__()
        hidden, place, base = config["d_model"], build.place, "model.decoder"
        self.hidden_size, self.dtype = hidden, place.dtype
        scale = hidden**0.5 if config.get("scale_embedding") else 1.0
        self.embedding = TokenEmbedding(f"{base}.embed_tokens", config["vocab_size"], hidden, scale, True, place)
        self.positions = TokenEmbedding(f"{base}.embed_positions", config["max_target_positions"], hidden, 1.0, False, place)
        self.layers = [WhisperLayer(f"{base}.layers.{index}", config, build) for index in range(config["decoder_layers"])]
        self.norm = LayerNorm(f"{base}.layer_norm", hidden, 1e-5, place)
        self.head = LMHead("proj_out", self.embedding, None, 1.0, 0.0)
        heads = config["decoder_attention_heads"]
        text = CacheSpec("full", heads, hidden // heads)
        sound = CacheSpec("cross", heads, hidden // heads, max_encoder_tokens=config["max_source_positions"])
        self.cache_specs: Sequence[CacheSpec] = [text, sound] * len(self.layers)

    def record(self, name: str, layer_groups: Sequence[int]) -> Program:
        """The body (ids and positions, int64 [tokens, 1], to hidden states), or "cross": an encoder's features [tokens, H] into the cache."""
        program = Program(name)
        caches = [CacheRef(index, group) for index, group in enumerate(layer_groups)]
        if name == "cross":
            features = program.input("features", self.hidden_size, self.dtype)
            for layer, cache in zip(self.layers, caches[1::2], strict=True):
                layer.keep(features, cache)
            return program
        ids, positions = program.input("ids", 1, torch.int64), program.input("positions", 1, torch.int64)
        residual = Residual(add(self.embedding(ids), self.positions(positions)))
        for layer, text, sound in zip(self.layers, caches[::2], caches[1::2], strict=True):
            layer(residual, positions, text, sound)
        program.outputs["hidden"] = residual.end(self.norm)
        return program

    @torch.inference_mode()
    def keep(self, features: torch.Tensor, kv_caches: list[KVCache], attn: AttentionMetadata) -> None:
        """Write keys and values of an encoder's output [T, H] to the slots that `attn` names for the cross-attention groups."""
        self._programs.get(self.record, "cross", kv_caches, attn.layer_groups).run({"features": features}, attn)

    @torch.inference_mode()
    def forward(
        self, input_ids: torch.Tensor, positions: torch.Tensor, kv_caches: list[KVCache], attn: AttentionMetadata
    ) -> torch.Tensor:
        """See `Model.forward`; each request sees the first encoder_lens of its encoder's keys."""
        return self._programs.get(self.record, "body", kv_caches, attn.layer_groups).run(
            {"ids": input_ids, "positions": positions}, attn
        )["hidden"]


class WhisperLayer(Module):
    """Attention to the text, attention to the sound, and a feed-forward block, each behind a norm."""

    def __init__(self, name: str, config: HfConfig, build: Build) -> None:
        hidden, inner, place = config["d_model"], config["decoder_ffn_dim"], build.place
        self.head_dim = hidden // config["decoder_attention_heads"]
        self.activation = ACTIVATIONS[config["activation_function"]]
        self.unrotated = build.rotations(None, self.head_dim)
        own, other = f"{name}.self_attn", f"{name}.encoder_attn"
        parts = {f"{own}.{part}_proj": hidden for part in "qkv"}
        self.qkv = ColumnLinear(hidden, parts, True, place, "qkv", unbiased=[f"{own}.k_proj"])
        self.out = RowLinear(f"{own}.out_proj", hidden, hidden, True, place, "out")
        self.cross_q = ColumnLinear(hidden, {f"{other}.q_proj": hidden}, True, place, "cross_q")
        kept = {f"{other}.{part}_proj": hidden for part in "kv"}
        self.cross_kv = ColumnLinear(hidden, kept, True, place, "cross_kv", unbiased=[f"{other}.k_proj"])
        self.cross_out = RowLinear(f"{other}.out_proj", hidden, hidden, True, place, "cross_out")
        self.up = ColumnLinear(hidden, {f"{name}.fc1": inner}, True, place, "up")
        self.down = RowLinear(f"{name}.fc2", inner, hidden, True, place, "down")
        norms = ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")
        self.norms = [LayerNorm(f"{name}.{norm}", hidden, 1e-5, place) for norm in norms]

    def keep(self, features: Value, cache: CacheRef) -> None:
        """Record the keys and values of the encoder's output."""
        k, v = split(self.cross_kv(features), features.width, features.width)
        write_cache(k, v, cache, self.head_dim)

    def __call__(self, residual: Residual, positions: Value, text: CacheRef, sound: CacheRef) -> None:
        """Record the layer."""
        scale = self.head_dim**-0.5
        before_text, before_sound, before_mlp = self.norms
        product = residual.enter(before_text, self.qkv)
        q, k, v = split(product, *[product.width // 3] * 3)
        q = rotate_and_keep(q, k, v, positions, self.unrotated, text, self.head_dim)
        residual.leave(attend(q, text, self.head_dim, scale), self.out)
        q = residual.enter(before_sound, self.cross_q)
        residual.leave(attend(q, sound, self.head_dim, scale, mask="encoder"), self.cross_out)
        residual.leave(activate(residual.enter(before_mlp, self.up), self.activation), self.down)
