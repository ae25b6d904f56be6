"""Host memory for what is large and lasts: weights and the KV cache, on large pages.

A page of 4 KiB is soon read through, and a processor remembers where some thousands of pages lie: a step over weights and
contexts spends a tenth of its time on finding the others. Linux gives pages of 2 MiB to memory that asks for them. Pages are
taken when first used.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import threading
import weakref
from collections.abc import Sequence

import torch

_LARGE_PAGE = 2 << 20
_CHUNK_BYTES = 256 << 20
_LINE = 64
"""Tensors start on cache lines, as the kernels' aligned loads like it."""


def empty(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """A tensor with memory of its own, all zeros at first.

    Raises:
        MemoryError: the system refuses so much.
    """
    return _view(_map(math.prod(shape) * dtype.itemsize), 0, shape, dtype)


def empty_packed(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Memory for tensors smaller than a page: they lie one behind the other in memory that is free when all of them are.

    Raises:
        MemoryError: the system refuses so much.
    """
    return _arena.take(shape, dtype)


class _Arena:
    """Cuts tensors out of chunks of memory, which the tensors alone keep alive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunk: weakref.ref[mmap.mmap] | None = None
        self._used = 0

    def take(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        size = -(-math.prod(shape) * dtype.itemsize // _LINE) * _LINE
        with self._lock:
            chunk = self._chunk() if self._chunk else None
            if chunk is None or self._used + size > len(chunk):
                chunk = _map(max(size, _CHUNK_BYTES))
                self._chunk, self._used = weakref.ref(chunk), 0
            start, self._used = self._used, self._used + size
            return _view(chunk, start, shape, dtype)


def _map(size: int) -> mmap.mmap:
    try:
        memory = mmap.mmap(-1, -(-max(size, 1) // _LARGE_PAGE) * _LARGE_PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError, ValueError) as error:
        raise MemoryError(f"no room for {size:,} bytes: {error}") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without large pages: small ones do as well
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _view(memory: mmap.mmap, start: int, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    count = math.prod(shape)
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(memory, dtype=dtype, count=count, offset=start).view(shape)


_arena = _Arena()
