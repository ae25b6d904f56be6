"""The decoder: embedding, layers of attention and MLP around a residual stream, final norm, head."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import torch

from octavo.cache_groups import specs_of_windows
from octavo.config import ModelConfig
from octavo.early_checks import shown_bytes
from octavo.errors import ConfigError
from octavo.executor.attention import AttentionMetadata, KVCache
from octavo.executor.layers.attention import Attention, AttentionShape
from octavo.executor.layers.embedding import LMHead, TokenEmbedding
from octavo.executor.layers.linear import Linear, Placement
from octavo.executor.layers.mlp import GatedMLP
from octavo.executor.layers.norm import RMSNorm
from octavo.executor.layers.quantization import linear_method
from octavo.executor.layers.rotary import cos_sin_table
from octavo.executor.layers.weights import Layer, Slot
from octavo.executor.memory import available_bytes
from octavo.executor.models.fusing import fuse
from octavo.executor.models.options import DecoderOptions
from octavo.kernels.fused import FusedDecoder
from octavo.rope import Rope

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
    """One layer: x and the residual stream in, x and the residual stream out.

    Every block's output x is added to the residual by whoever needs the sum next, so that addition and norm are one pass
    over memory.
    """

    def __init__(self, index: int, options: DecoderOptions, cos_sin: torch.Tensor, place: Placement) -> None:
        name = f"model.layers.{index}"
        self.dtype = place.dtype
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

    def __call__(
        self,
        x: torch.Tensor | None,
        residual: torch.Tensor,
        positions: torch.Tensor,
        cache: KVCache,
        attn: AttentionMetadata,
        group: int,
    ) -> torch.Tensor:
        """The MLP's output, not yet added to the residual; the attention's already is.

        Args:
            x: [T, H], the previous layer's return value; None for the first layer.
            residual: float32 [T, H], changed in place.
            group: of the cache.

        """
        x = add(x, residual, self.before_attention, self.dtype)
        x = self._leave(self.attention(x, positions, cache, attn, group), self.after_attention)
        x = add(x, residual, self.before_mlp, self.dtype)
        return self._leave(self.mlp(x), self.after_mlp)

    def _leave(self, x: torch.Tensor, norm: RMSNorm | None) -> torch.Tensor:
        if norm is not None:
            x = norm(x)
        return x if self.residual_scale == 1.0 else x.mul_(self.residual_scale)


def add(x: torch.Tensor | None, residual: torch.Tensor, norm: RMSNorm | None, dtype: torch.dtype) -> torch.Tensor:
    """Add x to the residual in place -> norm of the sum as `dtype`, or without a norm the sum (to be read, not written)."""
    if norm is None:
        return residual.to(dtype) if x is None else residual.add_(x).to(dtype)
    return norm(residual) if x is None else norm.add(x, residual)


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
        own = None if tied else Linear(hidden, vocab, False, place)
        self.head = LMHead("lm_head", self.embedding, own, options.logit_scale, options.logit_soft_cap)
        self._fused: FusedDecoder | None = None
        self._fused_caches: list[KVCache] | None = None

    def parts(self) -> Iterator[Layer]:
        """What the loader fills and finishes, one after the other."""
        yield self.embedding
        yield from self.layers
        yield self.norm
        yield self.head

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
        return self.forward_embeddings(self.embedding(input_ids), positions, kv_caches, attn)

    @torch.inference_mode()
    def forward_embeddings(
        self, embeddings: torch.Tensor, positions: torch.Tensor, kv_caches: list[KVCache], attn: AttentionMetadata
    ) -> torch.Tensor:
        """`forward` from embeddings [T, H] on, which are used up (they become the residual stream)."""
        # In 16 bits every addition of some hundred would round.
        residual, x = embeddings.float(), None
        fused = self._fused_over(kv_caches, attn.layer_groups)
        if fused is not None:
            return fused.forward(residual, positions, attn.slot_mapping, attn.query_starts, attn.seq_lens, attn.block_tables)
        for layer, cache, group in zip(self.layers, kv_caches, attn.layer_groups, strict=True):
            x = layer(x, residual, positions, cache, attn, group)
        return add(x, residual, self.norm, self.norm.dtype)

    def forget_caches(self) -> None:
        """Let go of the caches of the last step."""
        self._fused = self._fused_caches = None

    def _fused_over(self, kv_caches: list[KVCache], layer_groups: Sequence[int]) -> FusedDecoder | None:
        """All layers as one call over these caches, made when they are first seen."""
        if self._fused_caches is not kv_caches:
            self._fused, self._fused_caches = fuse(self, kv_caches, layer_groups), kv_caches
        return self._fused

    def profile(self, enable: bool) -> bool:
        """Measure the ops inside `forward` from now on; whether that can be done, which is known after the first forward."""
        if self._fused is not None:
            self._fused.profile(enable)
        return self._fused is not None

    def timings(self) -> dict[str, float]:
        """Seconds spent in each op of `forward` since the last call, by name; empty unless profiled."""
        return {} if self._fused is None else self._fused.timings()

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
