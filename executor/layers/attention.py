"""Self-attention over the paged KV cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from octavo.cache_groups import CacheSpec
from octavo.errors import ConfigError
from octavo.executor.layers.functional import attend, rotate_and_keep, split
from octavo.executor.layers.linear import ColumnLinear, Placement, RowLinear
from octavo.executor.layers.module import Module
from octavo.executor.layers.norm import RMSNorm
from octavo.executor.layers.residual import Residual
from octavo.kernels.program import Value
from octavo.kernels.program_ops import CacheRef

QKNorm = Literal["none", "head", "all"]


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """What an attention layer looks like."""

    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    """Factor of the scores, 1 / sqrt(head_dim) unless the model says otherwise."""
    window: int = 0
    """Keys a query sees, itself included; 0 = all."""
    soft_cap: float = 0.0
    qkv_bias: bool = False
    out_bias: bool = False
    fused_qkv: bool = False
    """The checkpoint holds q, k and v in one tensor, qkv_proj."""
    qk_norm: QKNorm = "none"
    """Norm of queries and keys before they are rotated: of each head, or of all heads as one vector."""
    norm_eps: float = 1e-6
    norm_offset: float = 0.0

    def __post_init__(self) -> None:
        """Raises: ConfigError: kernels look for the highest score before they scale it, so the scale must be positive."""
        if not self.scale > 0:
            raise ConfigError(f"config.json makes the factor of attention's scores {self.scale}; it must be positive")


class Attention(Module):
    """Grouped-query attention: projections, QK norm, rotation and cache write, attention, output projection."""

    def __init__(self, name: str, shape: AttentionShape, cos_sin: torch.Tensor, place: Placement) -> None:
        """cos_sin: see `ops.rope_and_cache`."""
        self.shape = shape
        self.cos_sin = cos_sin
        q_size, kv_size = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
        parts = {"q_proj": q_size, "k_proj": kv_size, "v_proj": kv_size}
        if shape.fused_qkv:
            parts = {"qkv_proj": q_size + 2 * kv_size}
        named = {f"{name}.{part}": rows for part, rows in parts.items()}
        self.qkv = ColumnLinear(shape.hidden_size, named, shape.qkv_bias, place, "qkv")
        self.out = RowLinear(f"{name}.o_proj", q_size, shape.hidden_size, shape.out_bias, place, "out")
        self.q_norm = self._norm(f"{name}.q_norm", q_size, place)
        self.k_norm = self._norm(f"{name}.k_norm", kv_size, place)

    def _norm(self, name: str, size: int, place: Placement) -> RMSNorm | None:
        if self.shape.qk_norm == "none":
            return None
        size = self.shape.head_dim if self.shape.qk_norm == "head" else size
        return RMSNorm(name, size, self.shape.norm_eps, place, self.shape.norm_offset)

    @property
    def cache_spec(self) -> CacheSpec:
        """What its cache keeps."""
        shape = self.shape
        return CacheSpec("window" if shape.window else "full", shape.num_kv_heads, shape.head_dim, shape.window)

    def __call__(
        self,
        residual: Residual,
        positions: Value,
        cache: CacheRef,
        before: RMSNorm | None,
        after: RMSNorm | None,
        scale: float,
    ) -> None:
        """Record the block: from the residual stream and back, through the norms before and after it.

        Args:
            positions: int64 [tokens, 1].
            cache: where its keys and values go.
            scale: of what it adds.
        """
        product = residual.enter(before, self.qkv)
        residual.leave(self._attend(product, positions, cache), self.out, after, scale)

    def _attend(self, product: Value, positions: Value, cache: CacheRef) -> Value:
        """q, k and v [tokens, (Hq + 2 Hkv) D] -> what the heads attended to, [tokens, Hq D]."""
        shape = self.shape
        q_size, kv_size = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
        q, k, v = split(product, q_size, kv_size, kv_size)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        rotated = rotate_and_keep(q, k, v, positions, self.cos_sin, cache, shape.head_dim)
        return attend(rotated, cache, shape.head_dim, shape.scale, window=shape.window, soft_cap=shape.soft_cap)
