"""Linear layers: how weights are stacked, and who computes the product."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from octavo.executor.layers.held import HeldMatrix
from octavo.executor.layers.module import Module
from octavo.executor.layers.weights import Part, Slot
from octavo.kernels import ops
from octavo.kernels.program import Value
from octavo.kernels.program_ops import Linear


class LinearMethod(Protocol):
    """A quantization method: turns filled weights into something that `ops.linear` and `ops.gated_linear` can multiply with."""

    def pack(self, weight: torch.Tensor, bias: torch.Tensor | None, gated: bool = False) -> Any:
        """Weight [N, K] and bias [N] in the method's own form; see `ops.pack_linear`."""


class PlainMethod:
    """No quantization: weights in the activations' type."""

    def pack(self, weight: torch.Tensor, bias: torch.Tensor | None, gated: bool = False) -> Any:
        return ops.pack_linear(weight, bias, gated)


PLAIN = PlainMethod()


@dataclass(frozen=True, slots=True)
class Placement:
    """Type and device of weights, and what they are packed into."""

    dtype: torch.dtype
    device: torch.device
    method: LinearMethod = PLAIN

    @property
    def keeps_form(self) -> bool:
        """Whether a weight may stay in the form its checkpoint has it in."""
        return self.method is PLAIN

    def empty(self, *shape: int) -> torch.Tensor:
        """Uninitialized memory for a weight."""
        return torch.empty(shape, dtype=self.dtype, device=self.device)


class Product(Module):
    """y = x W^T + b."""

    gated = False

    def __init__(self, in_features: int, out_features: int, bias: bool, place: Placement, label: str) -> None:
        """`label`: what times of its product are added up under."""
        self.label = label
        self.width = out_features
        self.held: HeldMatrix | None = HeldMatrix(out_features, in_features, place)
        self.bias: torch.Tensor | None = place.empty(out_features) if bias else None
        self.packed: Any = None

    def __call__(self, x: Value) -> Value:
        """Multiply x [rows, in_features] -> [rows, out_features]."""
        out = x.program.value(self.width, x.dtype, x.rows)
        x.program.add(Linear, self.label, x=x, weight=self.packed, gate=None, out=out)
        return out

    def finish(self) -> None:
        """Pack the weights; from here on only the packed form is kept."""
        self.packed = self._matrix.pack(self.bias, self.gated)
        self.held = self.bias = None

    @property
    def _matrix(self) -> HeldMatrix:
        if self.held is None:
            raise RuntimeError("the layer is packed already")
        return self.held


class ColumnLinear(Product):
    """Several products of the same input as one: q, k and v, or gate and up.

    The parts' rows lie one under the other. Over several devices each part's rows are split and every device computes its
    own outputs from the whole input.
    """

    def __init__(
        self, in_features: int, parts: dict[str, int], bias: bool, place: Placement, label: str, unbiased: Collection[str] = ()
    ) -> None:
        """`parts`: names in the checkpoint and numbers of rows; `unbiased`: those of them that have no bias all the same."""
        super().__init__(in_features, sum(parts.values()), bias, place, label)
        self.parts = parts
        self.unbiased = unbiased
        self.others: dict[str, Part] = {}
        """By name of a part, where its weight may lie instead; see `Slot.others`."""
        if self.bias is not None and unbiased:
            self.bias.zero_()

    def slots(self) -> Iterator[Slot]:
        """One tensor per part."""
        row = 0
        for name, rows in self.parts.items():
            others = (self.others[name],) if name in self.others else ()
            yield Slot(f"{name}.weight", self._matrix.data[row : row + rows], self._matrix, others)
            if self.bias is not None and name not in self.unbiased:
                yield Slot(f"{name}.bias", self.bias[row : row + rows])
            row += rows


class GatedLinear(ColumnLinear):
    """Gate and up as one product, and what they are for: activation(gate) * up."""

    gated = True

    def __init__(self, in_features: int, parts: dict[str, int], bias: bool, place: Placement, label: str) -> None:
        super().__init__(in_features, parts, bias, place, label)
        self.width //= 2


class RowLinear(Product):
    """The product that follows a ColumnLinear: attention output, or the MLP's way down.

    Over several devices the columns are split; each device computes a partial sum from its own inputs, and all sums are
    added up.
    """

    def __init__(self, name: str, in_features: int, out_features: int, bias: bool, place: Placement, label: str) -> None:
        super().__init__(in_features, out_features, bias, place, label)
        self.name = name
        self.others: tuple[Part, ...] = ()
        """Where its weight may lie instead; see `Slot.others`."""

    def slots(self) -> Iterator[Slot]:
        """The one weight, and its bias."""
        yield Slot(f"{self.name}.weight", self._matrix.data, self._matrix, self.others)
        if self.bias is not None:
            yield Slot(f"{self.name}.bias", self.bias)
