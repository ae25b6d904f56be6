"""All layers of a decoder in one native call. What it does is said in `octavo.kernels.fused`."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from octavo.kernels.cpu import _native
from octavo.kernels.cpu.linear import GATES, PackedLinear
from octavo.kernels.cpu.native import type_code
from octavo.kernels.fused import DecoderSpec, FusedDecoder, LayerSpec

_QK_NORMS = {"none": 0, "head": 1, "all": 2}
"""As csrc/decoder.h has them."""


def fuse_decoder(spec: DecoderSpec) -> FusedDecoder | None:
    """See `ops.fuse_decoder`. None for weights of a foreign form, and for scaled residuals behind a block's own norm."""
    weights = [weight for layer in spec.layers for weight in (layer.qkv, layer.out, layer.gate_up, layer.down)]
    normed_exits = any(layer.after_attention is not None or layer.after_mlp is not None for layer in spec.layers)
    if not all(isinstance(weight, PackedLinear) for weight in weights) or (normed_exits and spec.residual_scale != 1.0):
        return None
    return NativeDecoder(spec)


class NativeDecoder:
    """See `FusedDecoder`."""

    def __init__(self, spec: DecoderSpec) -> None:
        self._spec = spec  # keeps alive what the native object points to
        self._num_positions = min(layer.cos_sin.shape[0] for layer in spec.layers)
        self._native = _native.Decoder(
            type_code(spec.final_norm.new_empty(0, dtype=spec.dtype)), spec.hidden_size, spec.num_heads, spec.num_kv_heads,
            spec.head_dim, spec.inner_size, GATES[spec.activation], _QK_NORMS[spec.qk_norm], spec.norm_eps,
            spec.residual_scale, _norm(spec.final_norm),
        )  # fmt: skip
        for layer in spec.layers:
            self._add_layer(layer)
        self._set_caches(spec.kv_caches)

    def _add_layer(self, layer: LayerSpec) -> None:
        norms = (
            layer.before_attention, layer.after_attention, layer.before_mlp, layer.after_mlp, layer.q_norm, layer.k_norm,
        )  # fmt: skip
        self._native.add_layer(
            [weight.native for weight in (layer.qkv, layer.out, layer.gate_up, layer.down)], [_norm(norm) for norm in norms],
            layer.cos_sin.data_ptr(), layer.cos_sin.shape[0], layer.cos_sin.shape[1], layer.scale, layer.soft_cap,
            layer.window, layer.group,
        )  # fmt: skip

    def _set_caches(self, caches: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        keys, values = caches[0]
        num_blocks, _, block_size, _ = keys.shape
        self._native.set_caches(
            type_code(keys), [k.data_ptr() for k, _ in caches], [v.data_ptr() for _, v in caches], keys.stride()[:3],
            values.stride()[:3], num_blocks, block_size,
        )  # fmt: skip

    def forward(
        self,
        residual: torch.Tensor,
        positions: torch.Tensor,
        slot_mapping: Sequence[torch.Tensor],
        query_starts: torch.Tensor,
        seq_lens: torch.Tensor,
        block_tables: Sequence[torch.Tensor],
    ) -> torch.Tensor:
        """See `FusedDecoder.forward`."""
        out = torch.empty(residual.shape, dtype=self._spec.dtype)
        inside = self._native.forward(
            residual.shape[0], seq_lens.shape[0], residual.data_ptr(), out.data_ptr(), positions.data_ptr(),
            query_starts.data_ptr(), seq_lens.data_ptr(), [slots.data_ptr() for slots in slot_mapping],
            [tables.data_ptr() for tables in block_tables], block_tables[0].stride(0), block_tables[0].shape[1],
        )  # fmt: skip
        if not inside:
            raise IndexError(
                f"positions must lie in [0, {self._num_positions}), slots and block_tables inside a cache of "
                f"{self._spec.kv_caches[0][0].shape[0]} blocks, and seq_lens must fit query_starts and block_tables"
            )
        return out

    def profile(self, enable: bool) -> None:
        """See `FusedDecoder.profile`."""
        self._native.profile(enable)

    def timings(self) -> dict[str, float]:
        """See `FusedDecoder.timings`."""
        return dict(self._native.take_timings())


def _norm(weight: torch.Tensor | None) -> tuple[int, int]:
    return (0, 0) if weight is None else (weight.data_ptr(), type_code(weight))
