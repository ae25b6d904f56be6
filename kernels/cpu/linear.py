"""Matrix products on packed weights. What they do is said in `octavo.kernels.ops`."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.kernels.cpu import _native
from octavo.kernels.cpu.native import check_rows, type_code
from octavo.kernels.fused import Activation

PANEL = 32
"""Columns packed together; csrc/linear_layout.h describes the layout."""

DENSE = 0
"""As csrc/kernels.h numbers the forms of a weight."""

STORE, WIDE, ADD, SILU_GATE, GELU_GATE = range(5)
"""What becomes of a product, as csrc/kernels.h numbers it."""

GATES: dict[Activation, int] = {"silu": SILU_GATE, "gelu": GELU_GATE}


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """A weight [n, k] in panels, and its bias. Holds no reference to the tensor it was made from."""

    data: torch.Tensor
    bias: torch.Tensor | None
    n: int
    k: int
    gated: bool
    format: int
    """How the weight lies in memory, as csrc/kernels.h numbers it."""
    dtype: torch.dtype
    """Of x."""
    native: _native.Weight
    """What the kernels take; valid as long as the tensors are."""


def pack_linear(weight: torch.Tensor, bias: torch.Tensor | None = None, gated: bool = False) -> PackedLinear:
    """See `ops.pack_linear`. The weight's memory is free as soon as the caller drops it."""
    check_rows("weight", weight)
    n, k = weight.shape
    if bias is not None and (bias.shape != (n,) or bias.dtype != weight.dtype):
        raise ValueError(f"bias must be {weight.dtype} of shape [{n}], got {bias.dtype} {list(bias.shape)}")
    data = torch.empty(padded(n) * padded(k), dtype=weight.dtype)
    code = type_code(weight)
    _native.pack_linear(code, gated, data.data_ptr(), weight.data_ptr(), weight.stride(0), n, k)
    bias = None if bias is None else pack_columns(bias, gated)
    native = _native.Weight(DENSE, code, data.data_ptr(), 0 if bias is None else bias.data_ptr(), n, k)
    return PackedLinear(data, bias, n, k, gated, DENSE, weight.dtype, native)


def padded(size: int) -> int:
    """`size` rounded up to whole panels."""
    return -(-size // PANEL) * PANEL


def pack_columns(values: torch.Tensor, gated: bool) -> torch.Tensor:
    """One value a row of a weight, [n] -> in the order of its packed columns, zeros where these are padding."""
    if not gated:
        return torch.nn.functional.pad(values, (0, padded(values.shape[0]) - values.shape[0]))
    half = values.shape[0] // 2
    width = padded(2 * half) // 2
    parts = torch.nn.functional.pad(values.view(2, half), (0, width - half))
    return parts.view(2, -1, PANEL // 2).transpose(0, 1).reshape(-1)


def linear(x: torch.Tensor, packed: PackedLinear, wide: bool = False) -> torch.Tensor:
    """See `ops.linear`.

    Raises:
        ValueError: x does not fit the weight.
    """
    if packed.gated:
        raise ValueError("a gated weight takes gated_linear")
    out = torch.empty((x.shape[0], packed.n), dtype=torch.float32 if wide else x.dtype)
    _multiply(x, packed, WIDE if wide else STORE, out)
    return out


def gated_linear(x: torch.Tensor, packed: PackedLinear, activation: Activation) -> torch.Tensor:
    """See `ops.gated_linear`.

    Raises:
        ValueError: x does not fit the weight, or the weight is not gated.
    """
    if not packed.gated:
        raise ValueError("gated_linear takes a gated weight")
    out = torch.empty((x.shape[0], packed.n // 2), dtype=x.dtype)
    _multiply(x, packed, GATES[activation], out)
    return out


def _multiply(x: torch.Tensor, packed: PackedLinear, epilogue: int, out: torch.Tensor) -> None:
    check_rows("x", x)
    rows, k = x.shape
    if k != packed.k or x.dtype != packed.dtype:
        raise ValueError(f"x must be {packed.dtype} with {packed.k} columns, got {x.dtype} {list(x.shape)}")
    _native.linear(
        type_code(x), epilogue, 1.0, out.data_ptr(), out.stride(0), x.data_ptr(), x.stride(0), rows, packed.native
    )  # fmt: skip
