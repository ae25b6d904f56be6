"""What this machine gives at best, with the threads that kernels have: the rates that kernels are held against."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from octavo.kernels import host_memory
from octavo.kernels.cpu import _native
from octavo.kernels.cpu.native import type_code

_BYTES = 256 << 20
"""Read at a time: more than caches hold."""
_ROUNDS = 2_000_000
_TRIES = 5


def reading_rate() -> float:
    """Bytes per second that all threads together read from memory by a plain loop: the best of some tries."""
    memory = host_memory.empty((_BYTES,), torch.uint8).fill_(1)
    return _BYTES / _least_seconds(lambda: _native.read_memory(memory.data_ptr(), _BYTES))


def multiplying_rate(dtype: torch.dtype) -> float:
    """Floating-point operations per second that all threads together do on registers: the best of some tries.

    Args:
        dtype: bfloat16 where the instruction set in use multiplies it; whatever else is multiplied in float32.
    """
    code = type_code(torch.empty(0, dtype=dtype))
    done = _native.multiply(code, 1)
    rounds = _ROUNDS * 256 * _native.num_threads() // done + 1
    seconds = _least_seconds(lambda: _native.multiply(code, rounds))
    return done * rounds / seconds


def _least_seconds(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(_TRIES):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)
