"""How far two right answers may lie apart: it follows from what is summed, not from what is left when terms cancel.

A sum of n terms in float32, in any order, errs by at most n - 1 roundings of what has been summed so far, so by no more than
n times the unit roundoff times the sum of the terms' magnitudes (Higham, Accuracy and Stability of Numerical Algorithms, 4.2).
Two such sums differ by twice that, and each is rounded once more to its type.
"""

from __future__ import annotations

import torch

UNIT = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
"""Unit roundoff: half the distance from one to the next number, as a share of one."""

SINGLE = UNIT[torch.float32]
_SPARE = 8
"""Roundings beside the sum's own: factors, a bias, a scale, an exponential."""
_TINY = {torch.float32: 2.0**-126, torch.bfloat16: 2.0**-126, torch.float16: 2.0**-24}
"""Below it a type's numbers lie no denser."""


def sum_error(terms: int, magnitude: torch.Tensor | float) -> torch.Tensor:
    """Most that two float32 sums of `terms` terms differ whose magnitudes add up to `magnitude`: float64, its shape."""
    return 2 * (terms + _SPARE) * SINGLE * torch.as_tensor(magnitude).double()


def assert_within(actual: torch.Tensor, expected: torch.Tensor, error: torch.Tensor | float) -> None:
    """Equal but for `error` (broadcast) and one rounding of each to the type of `expected`; NaN and infinities where they are.

    Raises:
        AssertionError: with the worst element.
    """
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    a, e = actual.double(), expected.double()
    finite = e.isfinite()
    assert torch.equal(finite, a.isfinite())
    assert torch.equal(a.where(~finite, 0.0).nan_to_num(1.5), e.where(~finite, 0.0).nan_to_num(1.5))
    allowed = torch.as_tensor(error).double() + 2 * UNIT[expected.dtype] * e.abs() + 2 * _TINY[expected.dtype]
    over = ((a - e).abs() - allowed).where(finite, -1.0)
    if over.numel() and over.max() > 0:
        at = tuple(int(i) for i in torch.unravel_index(over.argmax(), over.shape))
        most = float(allowed.expand(over.shape)[at])
        raise AssertionError(f"at {at}: {float(a[at])!r} instead of {float(e[at])!r}, off by more than {most:.3g}")


def assert_sums(actual: torch.Tensor, expected: torch.Tensor, terms: int, magnitude: torch.Tensor | float) -> None:
    """Two sums of `terms` terms whose magnitudes add up to `magnitude`, each made in float32 and rounded to its type once."""
    assert_within(actual, expected, sum_error(terms, magnitude))
