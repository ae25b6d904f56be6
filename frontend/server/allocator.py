"""How the C library's allocator treats the server's large blocks: bodies, texts, answers of megabytes.

glibc raises the size from which a block gets pages of its own as soon as one such block was freed, up to 32 MiB. From then on
megabytes come out of the heap, where one small block above them keeps them from ever going back: a single hostile body leaves a
server larger for good.
"""

from __future__ import annotations

import ctypes

LARGE = 1024 * 1024
"""Bytes from which a block has pages of its own, which go back to the system when it is freed."""
ARENAS = 2
"""Heaps that threads share; glibc would make eight a processor, and keep what was freed in each."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def give_back_large_blocks() -> bool:
    """Set this process's allocator so; call it before threads start.

    Returns:
        False where the C library has no such settings (it is not glibc).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_M_MMAP_THRESHOLD: LARGE, _M_TRIM_THRESHOLD: LARGE, _M_ARENA_MAX: ARENAS}
    results = [mallopt(name, value) for name, value in settings.items()]
    return all(results)
