"""The decoder: embedding, layers of attention and MLP around a residual stream, final norm, head."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Literal

import torch

from octavo.cache_groups import specs_of_windows
from octavo.config import ModelConfig
from octavo.config.early_checks import shown_bytes
from octavo.errors import ConfigError
from octavo.executor.attention import AttentionMetadata, KVCache
from octavo.executor.layers.attention import Attention, AttentionShape
from octavo.executor.layers.embedding import LMHead, TokenEmbedding
from octavo.executor.layers.linear import Placement, Product
from octavo.executor.layers.mlp import GatedMLP
from octavo.executor.layers.norm import RMSNorm
from octavo.executor.layers.quantization import linear_method
from octavo.executor.layers.residual import Residual
from octavo.executor.layers.rotary import cos_sin_table
from octavo.executor.layers.weights import Layer, Slot
from octavo.executor.memory import available_bytes
from octavo.executor.models.options import DecoderOptions
from octavo.kernels.compile import compile_program
from octavo.kernels.program import CacheRef, Program, Value
from octavo.kernels.step import Runnable
from octavo.sources.rope import Rope

_TABLE_COPIES = 3
"""Tables of rotations that lie in memory at once while one is made: angles, their cosines and sines, both joined."""

_NORM_NAMES = {
    "pre": ("input_layernorm", None, "post_attention_layernorm", None),
    "sandwich": (
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    ),
    "post": (None, "post_attention_layernorm", None, "post_feedforward_layernorm"),
}
"""A layer's norms in the checkpoint: before and after attention, before and after the MLP."""


class DecoderLayer:
    """One layer: attention and MLP, each from the residual stream and back."""

    def __init__(self, index: int, options: DecoderOptions, cos_sin: torch.Tensor, place: Placement) -> None:
        name = f"model.layers.{index}"
        self.residual_scale = options.residual_scale
        self.attention = Attention(f"{name}.self_attn", _attention_shape(options, options.windows[index]), cos_sin, place)
        self.mlp = GatedMLP(
            f"{name}.mlp",
            options.hidden_size,
            options.intermediate_size,
            options.activation,
            options.mlp_bias,
            options.fused_weights,
            place,
        )
        norms = [
            RMSNorm(f"{name}.{norm}", options.hidden_size, options.norm_eps, place, options.norm_offset) if norm else None
            for norm in _NORM_NAMES[options.norm_places]
        ]
        self.before_attention, self.after_attention, self.before_mlp, self.after_mlp = norms

    def parts(self) -> Iterator[Layer]:
        """Everything that owns weights."""
        yield self.attention
        yield self.mlp
        for norm in (self.before_attention, self.after_attention, self.before_mlp, self.after_mlp):
            if norm is not None:
                yield norm

    def slots(self) -> Iterator[Slot]:
        """All weights of the layer."""
        for part in self.parts():
            yield from part.slots()

    def finish(self) -> None:
        """Pack all weights of the layer."""
        for part in self.parts():
            part.finish()

    def __call__(self, residual: Residual, positions: Value, cache: CacheRef) -> None:
        """Record the layer."""
        scale = self.residual_scale
        self.attention(residual, positions, cache, self.before_attention, self.after_attention, scale)
        self.mlp(residual, self.before_mlp, self.after_mlp, scale)


def _attention_shape(options: DecoderOptions, window: int) -> AttentionShape:
    return AttentionShape(
        hidden_size=options.hidden_size,
        num_heads=options.num_heads,
        num_kv_heads=options.num_kv_heads,
        head_dim=options.head_dim,
        scale=options.attention_scale,
        window=window,
        soft_cap=options.attention_soft_cap,
        qkv_bias=options.qkv_bias,
        out_bias=options.out_bias,
        fused_qkv=options.fused_weights,
        qk_norm=options.qk_norm,
        norm_eps=options.norm_eps,
        norm_offset=options.norm_offset,
    )


class DecoderModel:
    """A causal language model over a paged KV cache.

    Attributes:
        cache_specs: what each layer's cache keeps.

    """

    def __init__(self, options: DecoderOptions, config: ModelConfig, device: torch.device) -> None:
        """Weights are allocated, not initialized: the loader fills `slots` and calls `finish`, part by part."""
        self.options = options
        self.cache_specs = specs_of_windows(options.num_kv_heads, options.head_dim, options.windows)
        place = Placement(getattr(torch, config.dtype), device, linear_method(config.quantization))
        tables = _tables(options, config.max_model_len, device)
        vocab, hidden, tied = options.vocab_size, options.hidden_size, options.tie_embeddings
        self.embedding = TokenEmbedding("model.embed_tokens", vocab, hidden, options.embedding_scale, tied, place)
        self.layers = [DecoderLayer(i, options, table, place) for i, table in enumerate(tables)]
        self.norm = RMSNorm("model.norm", options.hidden_size, options.norm_eps, place, options.norm_offset)
        own = None if tied else Product(hidden, vocab, False, place, "head")
        self.head = LMHead("lm_head", self.embedding, own, options.logit_scale, options.logit_soft_cap)
        self._bodies: dict[str, Runnable] = {}
        self._caches: list[KVCache] | None = None

    def parts(self) -> Iterator[Layer]:
        """What the loader fills and finishes, one after the other."""
        yield self.embedding
        yield from self.layers
        yield self.norm
        yield self.head

    def record(self, begins_with: Literal["ids", "embeddings"], layer_groups: Sequence[int]) -> Program:
        """The body: ids int64 [tokens, 1], or embeddings [tokens, H], and positions int64 [tokens, 1] to hidden states
        [tokens, H], final norm applied.

        Args:
            layer_groups: the cache group of each layer.
        """
        program = Program(f"body from {begins_with}")
        if begins_with == "ids":
            embeddings = self.embedding(program.input("ids", 1, torch.int64))
        else:
            embeddings = program.input("embeddings", self.options.hidden_size, self.norm.dtype)
        positions = program.input("positions", 1, torch.int64)
        residual = Residual(embeddings)
        for index, (layer, group) in enumerate(zip(self.layers, layer_groups, strict=True)):
            layer(residual, positions, CacheRef(index, group))
        program.outputs["hidden"] = residual.end(self.norm)
        return program

    @torch.inference_mode()
    def forward(
        self, input_ids: torch.Tensor, positions: torch.Tensor, kv_caches: list[KVCache], attn: AttentionMetadata
    ) -> torch.Tensor:
        """Hidden states of a step's tokens; their keys and values are written to the caches.

        Args:
            input_ids, positions: int64 [T].
            kv_caches: one for each of cache_specs.

        Returns:
            [T, H], final norm applied.

        """
        body = self._body("ids", kv_caches, attn.layer_groups)
        return body.run({"ids": input_ids, "positions": positions}, attn)["hidden"]

    @torch.inference_mode()
    def forward_embeddings(
        self, embeddings: torch.Tensor, positions: torch.Tensor, kv_caches: list[KVCache], attn: AttentionMetadata
    ) -> torch.Tensor:
        """`forward` from embeddings [T, H] on."""
        body = self._body("embeddings", kv_caches, attn.layer_groups)
        return body.run({"embeddings": embeddings, "positions": positions}, attn)["hidden"]

    def forget_caches(self) -> None:
        """Let go of the caches of the last step."""
        self._bodies, self._caches = {}, None

    def _body(
        self, begins_with: Literal["ids", "embeddings"], kv_caches: list[KVCache], layer_groups: Sequence[int]
    ) -> Runnable:
        """The body over these caches, compiled when they are first seen."""
        if self._caches is not kv_caches:
            self._bodies, self._caches = {}, kv_caches
        body = self._bodies.get(begins_with)
        if body is None:
            body = self._bodies[begins_with] = compile_program(self.record(begins_with, layer_groups), kv_caches)
        return body

    def profile(self, enable: bool) -> bool:
        """Measure the ops inside `forward` from now on; whether that can be done, which is known after the first forward."""
        for body in self._bodies.values():
            body.profile(enable)
        return bool(self._bodies)

    def timings(self) -> dict[str, float]:
        """Seconds spent in each op of `forward` since the last call, by name; empty unless profiled."""
        timings: dict[str, float] = {}
        for body in self._bodies.values():
            for label, seconds in body.timings().items():
                timings[label] = timings.get(label, 0.0) + seconds
        return timings

    @torch.inference_mode()
    def compute_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of hidden states [R, H] -> float32 [R, V], scaling and soft cap applied."""
        return self.head(hidden)

    @torch.inference_mode()
    def sample(self, hidden: torch.Tensor, draws: torch.Tensor | None, tokens: torch.Tensor, peaks: torch.Tensor) -> None:
        """`ops.sample` of the logits of hidden states [R, H], drawing from all tokens."""
        self.head.sample(hidden, draws, tokens, peaks)


def _tables(options: DecoderOptions, length: int, device: torch.device) -> list[torch.Tensor]:
    """Each layer's table of rotations; layers with equal parameters share one.

    Raises:
        ConfigError: there is no memory for positions of so long sequences.

    """
    needed = _TABLE_COPIES * length * options.head_dim * torch.float32.itemsize
    if needed > available_bytes(torch.device("cpu")):
        raise ConfigError(f"positions for --max-model-len {length} need {shown_bytes(needed)}, more than there is: lower it")
    made: dict[str, torch.Tensor] = {}

    def table(rope: Rope | None) -> torch.Tensor:
        key = json.dumps(rope, sort_keys=True)
        if key not in made:
            made[key] = cos_sin_table(rope, options.head_dim, length).to(device)
        return made[key]

    return [table(rope) for rope in options.ropes]
