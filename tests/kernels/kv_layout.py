"""Caches of keys and values as a set of kernels keeps them: in rows [blocks, heads, block_size, D], or as matrix tiles."""

from __future__ import annotations

from types import ModuleType

import torch

import octavo.kernels.cpu as cpu


def laid_out(kernels: ModuleType, keys: torch.Tensor, values: torch.Tensor, dtype: torch.dtype) -> list[torch.Tensor]:
    """Rows -> what `kernels` expects for queries of `dtype`."""
    if not _in_tiles(kernels, keys, dtype):
        return [keys, values]
    tiles = [
        keys.unflatten(3, (-1, 16, 2)).unflatten(2, (-1, 16)).permute(0, 1, 2, 4, 5, 3, 6),  # groups, steps, pairs, keys, 2
        values.unflatten(3, (-1, 16)).unflatten(2, (-1, 16, 2)).permute(0, 1, 2, 5, 3, 6, 4),  # chunks, columns, pairs, d, 2
    ]
    return [part.reshape(keys.shape).contiguous() for part in tiles]


def in_rows(kernels: ModuleType, keys: torch.Tensor, values: torch.Tensor, dtype: torch.dtype) -> list[torch.Tensor]:
    """The way back."""
    if not _in_tiles(kernels, keys, dtype):
        return [keys, values]
    blocks, heads, block_size, head_dim = keys.shape
    rows = [
        keys.view(blocks, heads, block_size // 16, head_dim // 32, 16, 16, 2).permute(0, 1, 2, 5, 3, 4, 6),
        values.view(blocks, heads, block_size // 32, head_dim // 16, 16, 16, 2).permute(0, 1, 2, 4, 6, 3, 5),
    ]
    return [part.reshape(keys.shape) for part in rows]


def _in_tiles(kernels: ModuleType, cache: torch.Tensor, dtype: torch.dtype) -> bool:
    """As csrc/attention/kv_tiles.h says."""
    _, _, block_size, head_dim = cache.shape
    halves = dtype == cache.dtype == torch.bfloat16
    return kernels is cpu and cpu.isa() == "amx" and halves and head_dim % 32 == 0 and block_size % 32 == 0
