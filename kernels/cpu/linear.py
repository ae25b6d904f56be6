"""Matrix products on packed weights. What they do is said in `octavo.kernels.ops`."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.kernels.cpu import _native
from octavo.kernels.cpu.native import check_rows, type_code

PANEL = 32
"""Columns packed together; csrc/linear.cpp describes the layout."""


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """A weight [n, k] in panels, and its bias. Holds no reference to the tensor it was made from."""

    data: torch.Tensor
    bias: torch.Tensor | None
    n: int
    k: int


def pack_linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> PackedLinear:
    """See `ops.pack_linear`. The weight's memory is free as soon as the caller drops it."""
    check_rows("weight", weight)
    n, k = weight.shape
    if bias is not None and (bias.shape != (n,) or bias.dtype != weight.dtype):
        raise ValueError(f"bias must be {weight.dtype} of shape [{n}], got {bias.dtype} {list(bias.shape)}")
    data = torch.empty(_padded(n) * _padded(k), dtype=weight.dtype)
    _native.pack_linear(type_code(weight), data.data_ptr(), weight.data_ptr(), weight.stride(0), n, k)
    return PackedLinear(data, None if bias is None else bias.contiguous(), n, k)


def _padded(size: int) -> int:
    return -(-size // PANEL) * PANEL


def linear(x: torch.Tensor, packed: PackedLinear, wide: bool = False) -> torch.Tensor:
    """See `ops.linear`.

    Raises:
        ValueError: x does not fit the weight.
    """
    check_rows("x", x)
    rows, k = x.shape
    if k != packed.k or x.dtype != packed.data.dtype:
        raise ValueError(f"x must be {packed.data.dtype} with {packed.k} columns, got {x.dtype} {list(x.shape)}")
    out = torch.empty((rows, packed.n), dtype=torch.float32 if wide else x.dtype)
    bias = 0 if packed.bias is None else packed.bias.data_ptr()
    _native.linear(
        type_code(x), wide, out.data_ptr(), x.data_ptr(), x.stride(0), packed.data.data_ptr(), bias, rows, packed.n, k
    )  # fmt: skip
    return out
