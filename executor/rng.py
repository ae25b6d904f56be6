"""Counter-based randomness: a sample depends on its request's seed and output position, and on nothing else.

There is no state to carry along: what else is in the batch, chunking, preemption and replay change no sample.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Arrays of no dimension: numpy takes twice as long to operate with a number, which it makes an array first.
_GOLDEN = np.asarray(0x9E3779B97F4A7C15, np.uint64)
_MUL_1 = np.asarray(0xBF58476D1CE4E5B9, np.uint64)
_MUL_2 = np.asarray(0x94D049BB133111EB, np.uint64)
_SHIFT_1, _SHIFT_2, _SHIFT_3 = np.asarray(30, np.uint64), np.asarray(27, np.uint64), np.asarray(31, np.uint64)
_ONE = np.asarray(1, np.uint64)
_SHIFT_TO_53 = np.asarray(11, np.uint64)
_TO_UNIT = np.asarray(2.0**-53)


def keys_of(seeds: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """What `uniforms` wants of each request's seed.

    The seed is mixed before the position is added, so that near seeds do not give shifted copies of one sequence.
    """
    return _mix(seeds + _GOLDEN)


def uniforms(keys: npt.NDArray[np.uint64], positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """One number in [0, 1) for each (key, output position); both arrays [R]."""
    bits = _mix(keys + (positions.view(np.uint64) + _ONE) * _GOLDEN)
    bits >>= _SHIFT_TO_53
    return bits * _TO_UNIT


def _mix(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea & Flood 2014), in place."""
    z ^= z >> _SHIFT_1
    z *= _MUL_1
    z ^= z >> _SHIFT_2
    z *= _MUL_2
    z ^= z >> _SHIFT_3
    return z
