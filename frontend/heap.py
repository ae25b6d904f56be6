"""Memory that large work leaves with the allocator goes back to the system.

A text of a megabyte is a hundred megabytes of small objects while it is tokenized. The C library keeps what they leave, spread
over the heaps of the threads that made them, so a server's size would be that of the worst it ever did.
"""

from __future__ import annotations

import ctypes
import threading

_DELAY = 5.0
"""Seconds from large work to the tidying after it: rare, though there be much of such work."""

_lock = threading.Lock()
_planned: threading.Timer | None = None


def tidy_soon() -> None:
    """Large work is done: give memory back in some seconds, in a thread of its own. May be called from any thread."""
    global _planned
    with _lock:
        if _planned is None:
            _planned = threading.Timer(_DELAY, _tidy)
            _planned.name, _planned.daemon = "octavo-heap", True
            _planned.start()


def _tidy() -> None:
    global _planned
    with _lock:
        _planned = None
    trim()


def trim() -> bool:
    """Give free memory back; False where the C library has no way to say so (it is not glibc) or nothing was to be had."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return malloc_trim is not None and bool(malloc_trim(0))
