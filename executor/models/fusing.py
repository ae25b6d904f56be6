"""A decoder's layers handed to the kernels as one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from octavo.executor.attention import KVCache
from octavo.executor.layers.norm import RMSNorm
from octavo.kernels import ops
from octavo.kernels.fused import DecoderSpec, FusedDecoder, LayerSpec

if TYPE_CHECKING:
    from octavo.executor.models.decoder import DecoderLayer, DecoderModel


def fuse(model: DecoderModel, kv_caches: list[KVCache], layer_groups: Sequence[int]) -> FusedDecoder | None:
    """The loaded model's layers over these caches, of these groups, as one call; None where the kernels in use have none."""
    options = model.options
    spec = DecoderSpec(
        dtype=model.norm.dtype,
        hidden_size=options.hidden_size,
        num_heads=options.num_heads,
        num_kv_heads=options.num_kv_heads,
        head_dim=options.head_dim,
        inner_size=options.intermediate_size,
        activation=model.layers[0].mlp.activation,
        qk_norm=options.qk_norm,
        norm_eps=options.norm_eps,
        residual_scale=options.residual_scale,
        final_norm=model.norm.weight,
        layers=[_layer(layer, group) for layer, group in zip(model.layers, layer_groups, strict=True)],
        kv_caches=kv_caches,
    )
    return ops.fuse_decoder(spec)


def _layer(layer: DecoderLayer, group: int) -> LayerSpec:
    attention, shape = layer.attention, layer.attention.shape
    return LayerSpec(
        qkv=attention.qkv.packed,
        out=attention.out.packed,
        gate_up=layer.mlp.gate_up.packed,
        down=layer.mlp.down.packed,
        before_attention=_weight(layer.before_attention),
        after_attention=_weight(layer.after_attention),
        before_mlp=_weight(layer.before_mlp),
        after_mlp=_weight(layer.after_mlp),
        q_norm=_weight(attention.q_norm),
        k_norm=_weight(attention.k_norm),
        cos_sin=attention.cos_sin,
        scale=shape.scale,
        window=shape.window,
        soft_cap=shape.soft_cap,
        group=group,
    )


def _weight(norm: RMSNorm | None) -> torch.Tensor | None:
    return None if norm is None else norm.weight
