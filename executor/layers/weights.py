"""What a layer tells the loader about its weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch


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


class Layer(Protocol):
    """Anything that owns weights. Life: built (memory uninitialized), slots filled by the loader, `finish`, used."""

    def slots(self) -> Iterator[Slot]:
        """Every tensor that must be filled."""

    def finish(self) -> None:
        """Bring the filled weights into the form the kernels want; may give the slots' memory back."""
