"""Rotary position embedding and the write into the paged cache."""

from __future__ import annotations

import torch

from octavo.kernels.reference.dtypes import compute_type


def rope_and_cache(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    positions: torch.Tensor,
    cos_sin: torch.Tensor,
    slot_mapping: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
) -> None:
    """See `ops.rope_and_cache`."""
    cos, sin = cos_sin[positions].unsqueeze(1).chunk(2, dim=-1)
    rotate(q, cos, sin)
    rotate(k, cos, sin)
    written = slot_mapping >= 0
    slots, block_size = slot_mapping[written], k_cache.shape[2]
    blocks, offsets = slots // block_size, slots % block_size
    k_cache[blocks, :, offsets] = k[written].to(k_cache.dtype)
    v_cache[blocks, :, offsets] = v[written].to(v_cache.dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    """Turn x [T, heads, D] in place by the angles of cos, sin [T, 1, rot / 2]: pairs are (i, i + rot / 2)."""
    half = cos.shape[-1]
    wide = x[..., : 2 * half].to(compute_type(x.dtype))
    first, second = wide[..., :half], wide[..., half:]
    # Both halves before either is written: `wide` may be x itself.
    rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    x[..., : 2 * half] = rotated.to(x.dtype)
