"""A matrix while it is filled, in the form that its checkpoint has it in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from octavo.kernels import ops
from octavo.kernels.blocks import BlockKind, Blocks

if TYPE_CHECKING:
    from octavo.executor.layers.linear import Placement


class HeldMatrix:
    """Memory for a weight [N, K]: values of the model's type, unless a checkpoint's own form is asked for.

    A weight that is to be quantized while it is loaded takes values of the model's type all the same.
    """

    def __init__(self, rows: int, columns: int, place: Placement) -> None:
        self.shape = rows, columns
        self.data = place.empty(rows, columns)
        self._place = place
        self._kind: BlockKind | None = None
        self._integer = False

    @property
    def is_as_stored(self) -> bool:
        """Whether it holds something else than values of the model's type."""
        return self.data.dtype != self._place.dtype

    def hold_blocks(self, kind: BlockKind, integer: bool) -> None:
        """See `Matrix.hold_blocks`."""
        if self._place.keeps_form:
            rows, columns = self.shape
            self.data = torch.empty(rows, kind.row_bytes(columns), dtype=torch.uint8)
            self._kind, self._integer = kind, integer

    def hold_values(self, dtype: torch.dtype) -> None:
        """See `Matrix.hold_values`."""
        if self._place.keeps_form:
            self.data = torch.empty(self.shape, dtype=dtype)

    def pack(self, bias: torch.Tensor | None, gated: bool) -> Any:
        """What `ops.linear` and its like take."""
        if self._kind is not None:
            return ops.pack_blocks(Blocks(self.data, self._kind), self._place.dtype, bias, gated, self._integer)
        if self.is_as_stored:
            return ops.pack_linear(self.data, bias, gated, self._place.dtype)
        return self._place.method.pack(self.data, bias, gated)
