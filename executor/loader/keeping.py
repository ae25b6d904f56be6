"""Which matrices stay in the form that their checkpoint has them in.

A matrix may be made of several tensors (q, k and v; gate and up), and stays as it is where all of them have one form. Where
they differ (some GGUF files give v more bits than q and k) it takes values of the model's type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

import torch

from octavo.executor.layers.weights import Matrix, Slot
from octavo.kernels.blocks import BlockKind

Form = TypeVar("Form")


class StoresValues(Protocol):
    """A checkpoint whose tensors have types."""

    def stored_dtype(self, name: str) -> torch.dtype | None:
        """The 16-bit type of a tensor, None if it is of another."""


class StoresBlocks(Protocol):
    """A checkpoint some of whose tensors are quantized."""

    def block_kind(self, name: str) -> BlockKind | None:
        """A tensor's kind of blocks, None where the kernels do not know it."""


def keep_values(checkpoint: StoresValues, slots: Iterable[Slot], dtype: torch.dtype) -> None:
    """Have matrices hold 16 bits per value where a float32 model's checkpoint has no more."""
    if dtype == torch.float32:
        for matrix, stored in _common(slots, checkpoint.stored_dtype):
            matrix.hold_values(stored)


def keep_blocks(checkpoint: StoresBlocks, slots: Iterable[Slot], integer: bool) -> None:
    """Have matrices hold a GGUF file's blocks; `integer`: for products in 8 bits."""
    for matrix, kind in _common(slots, checkpoint.block_kind):
        matrix.hold_blocks(kind, integer)


def _common(slots: Iterable[Slot], form_of: Callable[[str], Form | None]) -> Iterator[tuple[Matrix, Form]]:
    """Matrices with the form that all tensors of one have."""
    forms: dict[int, set[Form | None]] = {}
    matrices: dict[int, Matrix] = {}
    for slot in slots:
        if slot.matrix is not None:
            matrices[id(slot.matrix)] = slot.matrix
            forms.setdefault(id(slot.matrix), set()).add(form_of(slot.name))
    for key, matrix in matrices.items():
        form = forms[key].pop() if len(forms[key]) == 1 else None
        if form is not None:
            yield matrix, form
