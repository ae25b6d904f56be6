"""Attention over a paged cache, request by request."""

from __future__ import annotations

from itertools import pairwise

import torch

from octavo.kernels.reference.dtypes import compute_type

MAX_SCORES = 1 << 24
"""Scores held at once; longer prompts are worked off in runs of queries."""


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
    """See `ops.paged_attention`."""
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    starts, lengths = query_starts.tolist(), seq_lens.tolist()
    for r, length in enumerate(lengths):
        start, stop = starts[r], starts[r + 1]
        keys = _gather(k_cache, block_tables[r], length, q.dtype)
        values = _gather(v_cache, block_tables[r], length, q.dtype)
        run = max(1, MAX_SCORES // max(1, length * q.shape[1]))
        for first in range(start, stop, run):
            last = min(first + run, stop)
            position = length - stop + first
            out[first:last] = _attend(q[first:last], keys, values, position, scale, sliding_window, soft_cap, full)
    return out


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
    """See `ops.attention`."""
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    starts = query_starts.tolist()
    for start, stop in pairwise(starts):
        keys, values = (x[start:stop].transpose(0, 1).to(compute_type(q.dtype)) for x in (k, v))
        out[start:stop] = _attend(q[start:stop], keys, values, 0, scale, sliding_window, soft_cap, full)
    return out


def _gather(cache: torch.Tensor, table: torch.Tensor, length: int, dtype: torch.dtype) -> torch.Tensor:
    """The first `length` entries of one request's cache -> [Hkv, length, D] in the compute type."""
    block_size = cache.shape[2]
    blocks = cache[table[: -(-length // block_size)].long()]
    return blocks.transpose(0, 1).flatten(1, 2)[:, :length].to(compute_type(dtype))


def _attend(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    position: int,
    scale: float,
    sliding_window: int,
    soft_cap: float,
    full: bool,
) -> torch.Tensor:
    """Queries [n, Hq, D] at position, position + 1, ... over keys and values [Hkv, L, D] -> [n, Hq, D]."""
    n, num_heads, head_dim = q.shape
    if not keys.shape[1]:
        return torch.zeros_like(q)
    first = max(0, position - sliding_window + 1) if sliding_window else 0
    seen = slice(first, None if full else position + n)
    keys, values = keys[:, seen], values[:, seen]
    grouped = q.to(keys.dtype).view(n, keys.shape[0], -1, head_dim).permute(1, 2, 0, 3)
    scores = grouped @ keys.unsqueeze(1).transpose(-1, -2) * scale
    if soft_cap > 0:
        scores = soft_cap * torch.tanh(scores / soft_cap)
    distance = _distances(position, n, first, keys.shape[1], q.device)
    hidden = torch.zeros_like(distance, dtype=torch.bool) if full else distance < 0
    if sliding_window > 0:
        hidden |= distance.abs() >= sliding_window
    weights = torch.softmax(scores.masked_fill_(hidden, float("-inf")), dim=-1)
    attended = weights @ values.unsqueeze(1)
    return attended.permute(2, 0, 1, 3).reshape(n, num_heads, head_dim).to(q.dtype)


def _distances(position: int, n: int, first_key: int, num_keys: int, device: torch.device) -> torch.Tensor:
    """How far back each key lies from each query; negative = in the future. [n, num_keys]"""
    queries = torch.arange(position, position + n, device=device)
    return queries.unsqueeze(1) - torch.arange(first_key, first_key + num_keys, device=device)
