"""Matrix products and embedding."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from octavo.kernels.program import Program
from octavo.kernels.program_ops import Activation
from octavo.kernels.reference.activation import gelu_and_mul, silu_and_mul
from octavo.kernels.reference.blocks import BlocksLinear
from octavo.kernels.reference.int8 import Int8Linear
from octavo.kernels.reference.packed import PackedLinear
from octavo.kernels.step import Caches


def pack_linear(
    weight: torch.Tensor, bias: torch.Tensor | None = None, gated: bool = False, dtype: torch.dtype | None = None  # noqa: ARG001
) -> PackedLinear:  # fmt: skip
    """See `ops.pack_linear`; gates and ups stay as they are."""
    return PackedLinear(weight if dtype is None else weight.to(dtype), bias)


def linear(x: torch.Tensor, packed: PackedLinear | Int8Linear | BlocksLinear, wide: bool = False) -> torch.Tensor:
    """See `ops.linear`."""
    if isinstance(packed, (Int8Linear, BlocksLinear)):
        product = packed.multiply(x)
        return product if wide else product.to(x.dtype)
    if wide and x.dtype != torch.float32:
        bias = None if packed.bias is None else packed.bias.float()
        return F.linear(x.float(), packed.weight.float(), bias)
    return F.linear(x, packed.weight, packed.bias)


def gated_linear(x: torch.Tensor, packed: PackedLinear | Int8Linear | BlocksLinear, activation: Activation) -> torch.Tensor:
    """See `ops.gated_linear`."""
    both = linear(x, packed)
    return silu_and_mul(both) if activation == "silu" else gelu_and_mul(both)


def native_program(program: Program, caches: Caches) -> tuple[None, str]:  # noqa: ARG001
    """See `ops.native_program`: torch runs op by op."""
    return None, ""


def embedding(ids: torch.Tensor, weight: torch.Tensor | PackedLinear | Int8Linear | BlocksLinear) -> torch.Tensor:
    """See `ops.embedding`."""
    if isinstance(weight, (Int8Linear, BlocksLinear)):
        return weight.rows(ids)
    return F.embedding(ids, weight.weight if isinstance(weight, PackedLinear) else weight)
