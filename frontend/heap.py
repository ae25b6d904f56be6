"""Memory that large work leaves with the allocator goes back to the system.

A text of a megabyte is a hundred megabytes of small objects while it is tokenized. The C library keeps what they leave, spread
over the heaps of the threads that made them, so a server's size would be that of the worst it ever did. glibc also raises the
size from which a block gets pages of its own as soon as one such block was freed, up to 32 MiB: from then on megabytes come out of
the heap, where one small block above them keeps them from ever going back.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

LARGE = 1024 * 1024
"""Bytes from which a block has pages of its own, which go back to the system when it is freed."""
ARENAS = 2
"""Heaps that threads share; glibc would make eight a processor, and keep what was freed in each."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8

_DELAY = 5.0
"""Seconds from large work to the tidying after it: rare, though there be much of such work."""

_lock = threading.Lock()
_planned: threading.Timer | None = None


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


def tidy_soon() -> None:
    """Large work is done: give memory back in some seconds, in a thread of its own. May be called from any thread."""
    global _planned
    with _lock:
        if _planned is None:
            _planned = threading.Timer(_DELAY, _tidy)
            _planned.name, _planned.daemon = "octavo-heap", True
            _planned.start()


def let_go(*lists: list[Any]) -> None:
    """Empty lists of large objects one object at a time, so that other threads have their turn between: freeing millions of token
    ids in one go takes a tenth of a second. For a thread; who else holds the objects must not be the last.
    """
    for objects in lists:
        while objects:
            objects.pop()


def _tidy() -> None:
    global _planned
    with _lock:
        _planned = None
    trim()


def trim() -> bool:
    """Give free memory back; False where the C library has no way to say so (it is not glibc) or nothing was to be had."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return malloc_trim is not None and bool(malloc_trim(0))
