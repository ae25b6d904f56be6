"""What a layer tells the loader about its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from octavo.kernels.blocks import BlockKind


class Matrix(Protocol):
    """A weight that can be filled with values of the model's type or, if a checkpoint has all its tensors in one form, with that.

    What it is to hold must be said before anything is filled.
    """

    def hold_blocks(self, kind: BlockKind, integer: bool) -> None:
        """Take blocks instead: from now on the slots are uint8 [N, bytes of a row].

        Args:
            integer: for products in 8-bit integers; see `ops.pack_blocks`.
        """

    def hold_values(self, dtype: torch.dtype) -> None:
        """Take values of another type, which the model's holds."""


@dataclass(frozen=True, slots=True)
class Part:
    """Where other checkpoints of a model keep a slot's numbers: under another name, or as some rows of a larger tensor.

    Attributes:
        index: in the first of three dimensions; None = the whole tensor is meant.
        first_row: of the rows that are the slot's.
    """

    name: str
    index: int | None = None
    first_row: int = 0


@dataclass(frozen=True, slots=True)
class Slot:
    """One tensor of the checkpoint and the memory it belongs into.

    The target may be a view: q, k and v lie in one matrix. A split over devices will make it a part of the checkpoint's
    tensor; that part is then named here.
    """

    name: str
    """In the checkpoint, as transformers calls it."""
    target: torch.Tensor
    """Uninitialized until the loader has written it; its shape is the one the checkpoint must have."""
    matrix: Matrix | None = None
    """Whose part the target is, where that can hold blocks."""
    others: tuple[Part, ...] = ()
    """Where its numbers may lie instead, if there is no tensor of its name: another version of transformers wrote them there."""
