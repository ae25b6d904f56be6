"""Matrix products on packed weights. What they do is said in `octavo.kernels.ops`."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.kernels import host_memory
from octavo.kernels.cpu import _native
from octavo.kernels.cpu.native import check_rows, code_of, isa, type_code
from octavo.kernels.program_ops import Activation

PANEL = 32
"""Columns packed together; csrc/linear/layout.h describes the layout."""

DENSE, INT8, COMPACT = 0, 1, 10
"""How a weight lies in memory, as csrc/base/kernels.h numbers it."""

_EXCEPTION_BYTES, _MAX_EXCEPTIONS = 8, 1 / 128
"""Of a compact weight (csrc/linear/compact.h): what an exception takes, and the share of values at which it does not pay."""

_COMPACT_ISAS = ("amx", "avx512_bf16", "avx512", "avx2")
"""Instruction sets that decode a compact weight faster than memory delivers a dense one."""

STORE, WIDE, ADD, SILU_GATE, GELU_GATE = range(5)
"""What becomes of a product, as csrc/base/kernels.h numbers it."""

GATES: dict[Activation, int] = {"silu": SILU_GATE, "gelu": GELU_GATE}


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """A weight [n, k] in panels, and its bias. Holds no reference to the tensor it was made from."""

    form: int
    """DENSE or another."""
    data: torch.Tensor
    bias: torch.Tensor | None
    n: int
    k: int
    gated: bool
    dtype: torch.dtype
    """Of x."""
    native: _native.Weight
    """What the kernels take; valid as long as the tensors are."""


def pack_linear(
    weight: torch.Tensor, bias: torch.Tensor | None = None, gated: bool = False, dtype: torch.dtype | None = None
) -> PackedLinear:
    """See `ops.pack_linear`. The weight's memory is free as soon as the caller drops it."""
    dtype = weight.dtype if dtype is None else dtype
    check_weight(weight, bias, dtype)
    weight = weight if decodes() else weight.to(dtype)
    n, k = weight.shape
    data = torch.empty(padded(n) * padded(k), dtype=weight.dtype)
    _native.pack_linear(type_code(weight), gated, data.data_ptr(), weight.data_ptr(), weight.stride(0), n, k)
    compact = _compacted(data, n, k) if weight.dtype == torch.bfloat16 and isa() in _COMPACT_ISAS else None
    form, packed = (DENSE, data) if compact is None else (COMPACT, compact)
    kept = host_memory.empty_packed(packed.shape, packed.dtype).copy_(packed)
    return packed_linear(form, kept, (n, k), bias, gated, dtype, stored=weight.dtype)


def decodes() -> bool:
    """Whether decoding a weight on the way to every product costs less than reading it widened, at 16 rows too."""
    return isa() != "portable"


def check_weight(weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype) -> None:
    """Whether a weight and a bias make a product with activations of a type.

    Raises:
        ValueError: the weight's rows are not contiguous, its type neither is that of the activations nor is widened to it, or
            the bias does not fit.
    """
    check_rows("weight", weight)
    if dtype not in (weight.dtype, torch.float32):
        raise ValueError(f"a weight of {weight.dtype} takes activations of its type or float32, not {dtype}")
    n = weight.shape[0]
    if bias is not None and (bias.shape != (n,) or bias.dtype != dtype):
        raise ValueError(f"bias must be {dtype} of shape [{n}], got {bias.dtype} {list(bias.shape)}")


def packed_linear(
    form: int,
    data: torch.Tensor,
    shape: tuple[int, int],
    bias: torch.Tensor | None,
    gated: bool,
    dtype: torch.dtype,
    *,
    stored: torch.dtype | None = None,
    integer: bool = False,
) -> PackedLinear:
    """What the packers return: `data`, packed from a weight of `shape`, with the bias in the order of its columns.

    Args:
        dtype: of x.
        stored: type of a dense weight's values, None = dtype.
        integer: whether x is rounded to 8 bits.
    """
    bias = None if bias is None else pack_columns(bias, gated)
    codes = code_of(dtype), code_of(stored or dtype)
    native = _native.Weight(form, *codes, integer, data.data_ptr(), 0 if bias is None else bias.data_ptr(), *shape)
    return PackedLinear(form, data, bias, *shape, gated, dtype, native)


def _compacted(dense: torch.Tensor, n: int, k: int) -> torch.Tensor | None:
    """A dense weight in 12 bits per value, without loss; None if too many of its exponents are rare."""
    values = dense.numel()
    panels = padded(n) // PANEL
    capacity = int(values * _MAX_EXCEPTIONS)
    room = torch.empty(panels * 64 + values * 3 // 2 + capacity * _EXCEPTION_BYTES, dtype=torch.uint8)
    used = _native.compact_linear(room.data_ptr(), dense.data_ptr(), n, k, capacity)
    return None if used < 0 else room[:used]


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


def check_x(x: torch.Tensor, packed: PackedLinear) -> None:
    """Raises:
    ValueError: x does not fit the weight.
    """
    check_rows("x", x)
    if x.shape[1] != packed.k or x.dtype != packed.dtype:
        raise ValueError(f"x must be {packed.dtype} with {packed.k} columns, got {x.dtype} {list(x.shape)}")


def _multiply(x: torch.Tensor, packed: PackedLinear, epilogue: int, out: torch.Tensor) -> None:
    check_x(x, packed)
    _native.linear(
        type_code(x), epilogue, 1.0, out.data_ptr(), out.stride(0), x.data_ptr(), x.stride(0), x.shape[0], packed.native
    )  # fmt: skip
