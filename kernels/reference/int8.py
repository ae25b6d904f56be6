"""Products in 8 bits: what every kernel set must give, bit for bit.

Activations have outliers, a few channels many times larger than the rest, which would leave these with few of the 127 steps.
So rows of x and of the weight are both multiplied by an orthogonal matrix first, which changes no product and shares an
outlier among 16 values (a Hadamard matrix, as in QuaRot, Ashkboos et al. 2024, but in small blocks).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

LARGEST = 127
"""The largest integer; -128 stays unused, so that negating is exact."""

SMALLEST_BOUND = 1e-30
"""A row's largest magnitude counts as at least this, so that its inverse is finite."""

MOST_K = 131072
"""Up to here sums of 32 bits hold any row, offset by 128 too."""


BLOCK = 64
"""Rows are padded with zeros to whole blocks."""

STRIDES = (4, 8, 16, 32)
"""How far apart the two values lie whose sum and difference take their places, one step after the other: 16 are mixed."""

MIXED = 1 << len(STRIDES)
"""What mixing twice multiplies by."""


@dataclass(frozen=True, slots=True)
class Int8Linear:
    """A weight [N, K] as integers with a scale a row, and its bias [N]."""

    weight: torch.Tensor
    """Mixed, [N, K rounded up to whole blocks]."""
    scales: torch.Tensor
    """float32 [N, 1], divided by MIXED, so that they are those of the product."""
    bias: torch.Tensor | None
    dtype: torch.dtype
    """What the weight was."""
    k: int

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """Product of x [T, K] -> float32 [T, N], bias added."""
        values, scales = quantize_rows(mix(x.float()))
        # In float64 integers are exact up to 2^53; a NaN stays one.
        sums = (values.double() @ self.weight.double().t()).float()
        product = sums * scales * self.scales.t()
        return product if self.bias is None else product + self.bias.float()

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows [T, K] of the weight for ids [T], as they were but for rounding."""
        ids = ids.long()
        return mix(self.weight[ids].float() * self.scales[ids])[:, : self.k].to(self.dtype)


def pack_int8(weight: torch.Tensor, bias: torch.Tensor | None = None, gated: bool = False) -> Int8Linear:  # noqa: ARG001
    """See `ops.pack_int8`; gates and ups stay as they are."""
    check_depth(weight.shape[1])
    values, scales = quantize_rows(mix(weight.float()))
    # A row with a NaN has a NaN for its scale, whatever its integers.
    return Int8Linear(values.nan_to_num(0).to(torch.int8), scales / MIXED, bias, weight.dtype, weight.shape[1])


def mix(x: torch.Tensor) -> torch.Tensor:
    """Multiply each block of float32 [T, K] by the (symmetric) Hadamard matrix -> [T, K rounded up to whole blocks]."""
    x = F.pad(x, (0, -x.shape[1] % BLOCK))
    for stride in STRIDES:
        first, second = x.unflatten(1, (-1, 2, stride)).unbind(2)
        x = torch.stack([first + second, first - second], dim=2).flatten(1)
    return x


def quantize_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows float32 [T, K] -> integers as float32 [T, K], scales float32 [T, 1]."""
    bound = x.abs().amax(dim=1, keepdim=True).clamp_min(SMALLEST_BOUND)
    bound = bound.where(bound.isfinite(), torch.nan)
    # A number divided by a tensor would be rounded twice: torch multiplies by the reciprocal.
    largest = x.new_tensor(LARGEST)
    return torch.round(x * (largest / bound)), bound / largest


def check_depth(k: int) -> None:
    """Raises:
    ValueError: rows of k values are too long.
    """
    if k > MOST_K:
        raise ValueError(f"int8 weights may have at most {MOST_K} columns, got {k}")
