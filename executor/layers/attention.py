"""Self-attention over the paged KV cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from octavo.errors import ConfigError
from octavo.executor.attention import AttentionMetadata, KVCache
from octavo.executor.layers.linear import ColumnLinear, Placement, RowLinear
from octavo.executor.layers.norm import RMSNorm
from octavo.executor.layers.weights import Slot
from octavo.kernels import ops

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


class Attention:
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
        self.qkv = ColumnLinear(shape.hidden_size, named, shape.qkv_bias, place)
        self.out = RowLinear(f"{name}.o_proj", q_size, shape.hidden_size, shape.out_bias, place)
        self.q_norm = self._norm(f"{name}.q_norm", q_size, place)
        self.k_norm = self._norm(f"{name}.k_norm", kv_size, place)

    def _norm(self, name: str, size: int, place: Placement) -> RMSNorm | None:
        if self.shape.qk_norm == "none":
            return None
        size = self.shape.head_dim if self.shape.qk_norm == "head" else size
        return RMSNorm(name, size, self.shape.norm_eps, place, self.shape.norm_offset)

    def slots(self) -> Iterator[Slot]:
        """Projections and norms."""
        yield from self.qkv.slots()
        yield from self.out.slots()
        for norm in (self.q_norm, self.k_norm):
            if norm is not None:
                yield from norm.slots()

    def finish(self) -> None:
        """Pack the weights."""
        self.qkv.finish()
        self.out.finish()
        for norm in (self.q_norm, self.k_norm):
            if norm is not None:
                norm.finish()

    def __call__(
        self, x: torch.Tensor, positions: torch.Tensor, cache: KVCache, attn: AttentionMetadata, group: int
    ) -> torch.Tensor:
        """Attend from x [T, H] at positions [T] -> new tensor [T, H]; keys and values go into the cache, which is of `group`."""
        q, k, v = self._project(x)
        k_cache, v_cache = cache
        ops.rope_and_cache(q, k, v, positions, self.cos_sin, attn.slot_mapping[group], k_cache, v_cache)
        shape = self.shape
        tables = attn.block_tables[group]
        attended = ops.paged_attention(
            q, k_cache, v_cache, attn.query_starts, attn.seq_lens, tables, shape.scale, shape.window, shape.soft_cap
        )
        return self.out(attended.view(x.shape[0], -1))

    def _project(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Project x [T, H] -> q [T, Hq, D], k and v [T, Hkv, D], views into one product unless normed."""
        shape = self.shape
        heads = self.qkv(x).view(x.shape[0], -1, shape.head_dim)
        q, k, v = heads.split([shape.num_heads, shape.num_kv_heads, shape.num_kv_heads], dim=1)
        if self.q_norm is None or self.k_norm is None:
            return q, k, v
        if shape.qk_norm == "head":
            return self.q_norm(q), self.k_norm(k), v
        return self.q_norm(q.flatten(1)).view(q.shape), self.k_norm(k.flatten(1)).view(k.shape), v
