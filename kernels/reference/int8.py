"""Products in 8 bits: what every kernel set must give, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

import torch

LARGEST = 127
"""The largest integer; -128 stays unused, so that negating is exact."""

SMALLEST_BOUND = 1e-30
"""A row's largest magnitude counts as at least this, so that its inverse is finite."""

MOST_K = 131072
"""Up to here sums of 32 bits hold any row, offset by 128 too."""


@dataclass(frozen=True, slots=True)
class Int8Linear:
    """A weight [N, K] as integers with a scale a row, and its bias [N]."""

    weight: torch.Tensor
    scales: torch.Tensor
    """float32 [N, 1]."""
    bias: torch.Tensor | None
    dtype: torch.dtype
    """What the weight was."""

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """Product of x [T, K] -> float32 [T, N], bias added."""
        values, scales = quantize_rows(x)
        # In float64 integers are exact up to 2^53; a NaN stays one.
        sums = (values.double() @ self.weight.double().t()).float()
        product = sums * scales * self.scales.t()
        return product if self.bias is None else product + self.bias.float()

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows [T, K] of the weight for ids [T], as they were but for rounding."""
        ids = ids.long()
        return (self.weight[ids].float() * self.scales[ids]).to(self.dtype)


def pack_int8(weight: torch.Tensor, bias: torch.Tensor | None = None, gated: bool = False) -> Int8Linear:  # noqa: ARG001
    """See `ops.pack_int8`; gates and ups stay as they are."""
    check_depth(weight.shape[1])
    values, scales = quantize_rows(weight)
    # A row with a NaN has a NaN for its scale, whatever its integers.
    return Int8Linear(values.nan_to_num(0).to(torch.int8), scales, bias, weight.dtype)


def quantize_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows [T, K] -> integers as float32 [T, K], scales float32 [T, 1]."""
    wide = x.float()
    bound = wide.abs().amax(dim=1, keepdim=True).clamp_min(SMALLEST_BOUND)
    bound = bound.where(bound.isfinite(), torch.nan)
    # A number divided by a tensor would be rounded twice: torch multiplies by the reciprocal.
    largest = wide.new_tensor(LARGEST)
    return torch.round(wide * (largest / bound)), bound / largest


def check_depth(k: int) -> None:
    """Raises:
    ValueError: rows of k values are too long.
    """
    if k > MOST_K:
        raise ValueError(f"int8 weights may have at most {MOST_K} columns, got {k}")
