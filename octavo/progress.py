"""How far something long is, for whoever draws it: one listener a process, none unless a program sets one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, float], None]
"""Called with what is being done and the share that is done, 0..1, from any thread."""

_listener: Listener | None = None


@contextmanager
def told_to(listener: Listener) -> Iterator[None]:
    """Tell `listener` while the block runs."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


def has_listener() -> bool:
    """Whether somebody draws progress, so that nobody else need."""
    return _listener is not None


def tell(what: str, fraction: float) -> None:
    """`what` is at `fraction` now."""
    if _listener is not None:
        _listener(what, min(max(fraction, 0.0), 1.0))
