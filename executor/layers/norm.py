"""Norms."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from octavo.executor.layers.linear import Placement
from octavo.executor.layers.module import Module
from octavo.executor.layers.weights import Slot
from octavo.kernels.program import Value
from octavo.kernels.program_ops import Norm, NormWeight


class RMSNorm(Module):
    """x / rms(x) * (offset + weight).

    Gemma stores its weights around zero and adds 1 in float32, so with an offset the weight is kept in float32.
    """

    def __init__(self, name: str, size: int, eps: float, place: Placement, offset: float = 0.0) -> None:
        self.name = name
        self.eps = eps
        self.offset = offset
        self.dtype = place.dtype
        dtype = torch.float32 if offset else place.dtype
        self.weight = torch.empty(size, dtype=dtype, device=place.device)

    def slots(self) -> Iterator[Slot]:
        """The one weight."""
        yield Slot(f"{self.name}.weight", self.weight)

    def finish(self) -> None:
        """Add the offset once."""
        if self.offset:
            self.weight += self.offset

    @property
    def operand(self) -> NormWeight:
        """The weight as ops take it."""
        return NormWeight(self.weight, self.eps)

    def __call__(self, x: Value) -> Value:
        """Norm of x [rows, n * size], each of its n parts by itself."""
        out = x.program.value(x.width, self.dtype, x.rows)
        parts = x.width // self.weight.shape[0]
        x.program.add(Norm, "norm", x=x, addend=None, norm=self.operand, parts=parts, total=None, out=out)
        return out


class LayerNorm(Module):
    """(x - mean) / deviation * weight + bias (Ba et al. 2016)."""

    def __init__(self, name: str, size: int, eps: float, place: Placement, bias: bool = True) -> None:
        self.name = name
        self.eps = eps
        self.weight = place.empty(size)
        self.bias = place.empty(size) if bias else None

    def slots(self) -> Iterator[Slot]:
        """Weight and bias."""
        yield Slot(f"{self.name}.weight", self.weight)
        if self.bias is not None:
            yield Slot(f"{self.name}.bias", self.bias)

    @property
    def operand(self) -> NormWeight:
        """The weight as ops take it."""
        return NormWeight(self.weight, self.eps, self.bias, centred=True)

    def __call__(self, x: Value, add: Value | None = None) -> Value:
        """Norm of x [rows, size], after adding `add` to it where there is one: a norm behind a block."""
        out = x.program.value(x.width, x.dtype, x.rows)
        total = None if add is None else x.program.value(x.width, x.dtype, x.rows)
        x.program.add(Norm, "norm", x=x, addend=add, norm=self.operand, parts=1, total=total, out=out)
        return out
