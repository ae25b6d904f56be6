"""Paged attention and the write into its cache. What they do is said in `octavo.kernels.ops`."""

from __future__ import annotations

import torch

from octavo.kernels.cpu import _native
from octavo.kernels.cpu.native import check_rows, type_code


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
    """See `ops.rope_and_cache`.

    Raises:
        IndexError: a position outside cos_sin, or a slot outside the cache.
    """
    for name, x in (("q", q), ("k", k), ("v", v), ("k_cache", k_cache), ("v_cache", v_cache)):
        check_rows(name, x)
    if not (q.dtype == k.dtype == v.dtype and k_cache.dtype == v_cache.dtype):
        raise TypeError(f"q, k and v must share a type, and so must the caches; got {q.dtype}, {k.dtype}, {v.dtype}, "
                        f"{k_cache.dtype}, {v_cache.dtype}")  # fmt: skip
    if cos_sin.dtype != torch.float32 or not cos_sin.is_contiguous():
        raise TypeError("cos_sin must be contiguous float32")
    num_tokens, num_heads, head_dim = q.shape
    num_blocks, num_kv_heads, block_size, _ = k_cache.shape
    inside = _native.rope_and_cache(
        type_code(q), type_code(k_cache), q.data_ptr(), q.stride()[:2], k.data_ptr(), k.stride()[:2], v.data_ptr(),
        v.stride()[:2], positions.data_ptr(), cos_sin.data_ptr(), cos_sin.shape[0], cos_sin.shape[1],
        slot_mapping.data_ptr(), k_cache.data_ptr(), k_cache.stride()[:3], v_cache.data_ptr(), v_cache.stride()[:3],
        num_tokens, num_heads, num_kv_heads, head_dim, num_blocks, block_size,
    )  # fmt: skip
    if not inside:
        raise IndexError(
            f"positions must lie in [0, {cos_sin.shape[0]}) and slots below {num_blocks * block_size}; "
            f"got positions up to {int(positions.max())} and slots up to {int(slot_mapping.max())}"
        )


def paged_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    query_starts: torch.Tensor,
    seq_lens: torch.Tensor,
    block_tables: torch.Tensor,
    scale: float,
    sliding_window: int = 0,
    soft_cap: float = 0.0,
    full: bool = False,
) -> torch.Tensor:
    """See `ops.paged_attention`.

    Raises:
        IndexError: a block outside the cache, a request with more new tokens than its length, or a table too short.
        ValueError: scale is not positive.
    """
    if not scale > 0:
        raise ValueError(f"scale is {scale}; it must be positive")
    for name, x in (("q", q), ("k_cache", k_cache), ("v_cache", v_cache), ("block_tables", block_tables)):
        check_rows(name, x)
    num_blocks, num_kv_heads, block_size, head_dim = k_cache.shape
    out = torch.empty(q.shape, dtype=q.dtype)
    inside = _native.paged_attention(
        type_code(q), type_code(k_cache), out.data_ptr(), q.data_ptr(), q.stride()[:2], k_cache.data_ptr(),
        k_cache.stride()[:3], v_cache.data_ptr(), v_cache.stride()[:3], query_starts.data_ptr(), seq_lens.data_ptr(),
        block_tables.data_ptr(), block_tables.stride(0), seq_lens.shape[0], q.shape[1], num_kv_heads, head_dim, num_blocks,
        block_size, block_tables.shape[1], scale, soft_cap, sliding_window, full,
    )  # fmt: skip
    if not inside:
        raise IndexError(
            f"block_tables name blocks outside [0, {num_blocks}), or seq_lens do not fit query_starts and the tables' "
            f"{block_tables.shape[1]} blocks of {block_size}"
        )
    return out


_BLOCK = 32


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    query_starts: torch.Tensor,
    scale: float,
    sliding_window: int = 0,
    soft_cap: float = 0.0,
    full: bool = True,
) -> torch.Tensor:
    """See `ops.attention`: keys and values are laid out in pages for the one call."""
    lengths = query_starts.diff().to(torch.int32)
    counts = -(-lengths // _BLOCK)
    num_blocks, first = int(counts.sum()), counts.cumsum(0) - counts
    tables = (first.unsqueeze(1) + torch.arange(max(1, int(counts.max())))).to(torch.int32).clamp(max=max(0, num_blocks - 1))
    within = torch.arange(len(q)) - query_starts[:-1].long().repeat_interleave(lengths)
    slots = first.repeat_interleave(lengths) * _BLOCK + within
    pages = torch.zeros(2, num_blocks, k.shape[1], _BLOCK, k.shape[2], dtype=q.dtype)
    nowhere, unrotated = torch.zeros(len(q), dtype=torch.int64), torch.tensor([[1.0, 0.0]])
    rope_and_cache(k[:, :1].clone(), k.clone(), v, nowhere, unrotated, slots, pages[0], pages[1])
    return paged_attention(q, pages[0], pages[1], query_starts, lengths, tables, scale, sliding_window, soft_cap, full)
