"""What a template may use: processor time, characters, items. A thread cannot be killed, so it finds out by itself.

Values that a template builds may share their parts: sixty lists, each holding the one before twice, are small, but who prints,
compares or hashes them walks 2^60 paths, in C and without coming back. So every such walk is done here first, in Python: `weigh`
counts what a value unfolds to, and gives up at a bound. What passes is small enough for C to walk in a few milliseconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import ItemsView, Iterable, Iterator, KeysView, ValuesView
from typing import Any, NamedTuple

import jinja2

MAX_CHARS = 16_000_000
"""Longest string a template may make."""
MAX_TOTAL_BYTES = 256_000_000
"""Strings and lists it makes, together, whether it keeps them or not."""
MAX_ITEMS = 250_000
"""Longest list; most values within a value."""
MAX_DEPTH = 500
"""Lists within lists; C hashes tuples without a bound of its own."""
MAX_INT_BITS = 16_384
CPU_SECONDS = 0.5
COMPILE_SECONDS = 2.0
"""A compiled template is kept, and a model's own may be long."""

_TICKS_PER_CHECK = 64
CHARS_PER_TICK = 256
_ITEMS_PER_TICK = 16
_ITEM_BYTES = 64
_FREE_CHARS = 256
_FREE_ITEMS = 16
_CONTAINERS = (list, tuple, dict, KeysView, ValuesView, ItemsView)
_ATOMS = frozenset({int, float, bool, type(None)})


class BudgetError(jinja2.TemplateError):
    """The template takes too long or makes too much."""


class _Budget(threading.local):
    """What the render that runs in this thread has left."""

    cpu_end = float("inf")
    """On the clock of `time.thread_time`."""
    look_again = float("inf")
    """On the clock of `time.perf_counter`, which is cheap to read; before then `cpu_end` cannot have come."""
    seconds = 0.0
    bytes_left = 0
    ticks = 0


_budget = _Budget()


class budget:  # noqa: N801  (reads as a statement: with budget())
    """The block may use so many seconds of this thread's processor time, CPU_SECONDS by default, and MAX_TOTAL_BYTES."""

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = CPU_SECONDS if seconds is None else seconds

    def __enter__(self) -> None:
        _budget.seconds = self._seconds
        _budget.cpu_end = time.thread_time() + self._seconds
        _budget.look_again = time.perf_counter() + self._seconds
        _budget.bytes_left = MAX_TOTAL_BYTES
        _budget.ticks = 0

    def __exit__(self, *_: object) -> None:
        _budget.cpu_end = _budget.look_again = float("inf")


class Weight(NamedTuple):
    """What a value unfolds to: characters of its strings, values in it, levels of containers (0: it is none)."""

    chars: int
    items: int = 1
    depth: int = 0


def tick(work: int = 1) -> None:
    """So many units of work; now and then looks at the clock."""
    work += _budget.ticks
    if work >= _TICKS_PER_CHECK:
        work = 0
        if time.perf_counter() > _budget.look_again:
            _look_at_the_clock()
    _budget.ticks = work


def _look_at_the_clock() -> None:
    left = _budget.cpu_end - time.thread_time()
    if left < 0:
        raise BudgetError(f"it runs longer than {_budget.seconds:g} s")
    _budget.look_again = time.perf_counter() + left


def touch(value: Any) -> None:
    """Something is done that takes a time by the value's length."""
    tick(1 + len(value) // CHARS_PER_TICK if isinstance(value, str | list | tuple | dict) else 1)


def weigh(value: Any) -> Weight:
    """What a value unfolds to; counts as work.

    Raises:
        BudgetError: more than C may walk at once.
    """
    if isinstance(value, str):
        tick(1 + len(value) // CHARS_PER_TICK)
        check_length(len(value))
        return Weight(len(value))
    if type(value) in _ATOMS or not isinstance(value, _CONTAINERS):
        return Weight(32)
    weight = _unfold(value)
    tick(1 + weight.chars // CHARS_PER_TICK + weight.items // _ITEMS_PER_TICK)
    return weight


def _unfold(value: Any) -> Weight:
    """Level by level, so that deep values need no stack."""
    chars, items, depth, level = 0, 1, 0, [value]
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                chars += len(item)
            elif isinstance(item, _CONTAINERS):
                items += len(item)
                if items > MAX_ITEMS:
                    raise BudgetError(f"it works on a value that unfolds to more than {MAX_ITEMS} values")
                below.extend(item)
                if isinstance(item, dict):
                    below.extend(item.values())
        level = below
        depth += bool(below)
        if depth > MAX_DEPTH:
            raise BudgetError(f"it nests values more than {MAX_DEPTH} levels deep")
    chars += 32 * items
    check_length(chars)
    return Weight(chars, items, depth)


def walked(value: Any) -> Any:
    """The value, once it is known that C may print, compare or hash it. Strings and numbers pass at once."""
    if type(value) is str:
        if len(value) > CHARS_PER_TICK:
            touch(value)
    elif type(value) not in _ATOMS:
        weigh(value)
    return value


def made(value: Any) -> Any:
    """The value, which was just made, once it is charged; small ones take so long to make that time is bound enough."""
    kind = type(value)
    if kind is str or isinstance(value, str):
        if len(value) > _FREE_CHARS:
            check_length(len(value))
            _charge(len(value) if value.isascii() else 4 * len(value))
    elif isinstance(value, list | tuple | dict):
        if len(value) > _FREE_ITEMS:
            check_items(len(value))
            _charge(_ITEM_BYTES * len(value))
    elif kind is int:
        check_int(value)
    return value


def _charge(size: int) -> None:
    _budget.bytes_left -= size
    if _budget.bytes_left < 0:
        raise BudgetError(f"it makes more than {MAX_TOTAL_BYTES} bytes of strings and lists")


def metered(items: Iterable[Any]) -> Iterator[Any]:
    """The items, each a unit of work."""
    for item in items:
        tick()
        yield item


def check_length(length: int) -> None:
    if length > MAX_CHARS:
        raise BudgetError(f"it makes a string of more than {MAX_CHARS} characters")


def check_items(number: int) -> None:
    if number > MAX_ITEMS:
        raise BudgetError(f"it makes a list of more than {MAX_ITEMS} items")


def check_int(value: int) -> None:
    if value.bit_length() > MAX_INT_BITS:
        raise BudgetError("it computes a number that is too large")
