"""A decoder's layers described as data, for kernel sets that run all of them in one call.

What a set does with it, it says in `fuse_decoder`: None, and the layers run op by op through `ops`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

Activation = Literal["silu", "gelu"]
"""Of a gated feed-forward block; gelu is the tanh approximation."""


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One layer's weights, packed and ready for use, and what attention needs to know. A missing norm is None."""

    qkv: Any
    out: Any
    gate_up: Any
    """Packed as `ops.pack_linear` does with `gated`."""
    down: Any
    before_attention: torch.Tensor | None
    after_attention: torch.Tensor | None
    before_mlp: torch.Tensor | None
    after_mlp: torch.Tensor | None
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    cos_sin: torch.Tensor
    """See `ops.rope_and_cache`."""
    scale: float
    window: int
    soft_cap: float
    group: int
    """Of the cache: whose slots and block tables count."""


@dataclass(frozen=True, slots=True)
class DecoderSpec:
    """A stack of layers between embedding and head; all have the same sizes."""

    dtype: torch.dtype
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    inner_size: int
    activation: Activation
    qk_norm: Literal["none", "head", "all"]
    norm_eps: float
    residual_scale: float
    final_norm: torch.Tensor
    layers: list[LayerSpec]
    kv_caches: list[tuple[torch.Tensor, torch.Tensor]]
    """Keys and values of each layer, [num_blocks, Hkv, block_size, D]; all have the same type and strides."""


class FusedDecoder(Protocol):
    """All layers and the final norm as one call."""

    def forward(
        self,
        residual: torch.Tensor,
        positions: torch.Tensor,
        slot_mapping: Sequence[torch.Tensor],
        query_starts: torch.Tensor,
        seq_lens: torch.Tensor,
        block_tables: Sequence[torch.Tensor],
    ) -> torch.Tensor:
        """Embeddings float32 [T, H], which are used up -> hidden states [T, H]; see `ops.paged_attention` for the others.

        Slots and block tables come for each cache group; the tables have all the same shape and strides.

        Raises:
            IndexError: a position, slot or block outside its table.
        """

    def profile(self, enable: bool) -> None:
        """Measure how long each op takes, from now on or no longer."""

    def timings(self) -> dict[str, float]:
        """Seconds spent in each op since the last call, by name."""
