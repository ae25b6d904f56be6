"""Root-mean-square norm."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from octavo.executor.layers.linear import Placement
from octavo.executor.layers.weights import Slot
from octavo.kernels import ops


class RMSNorm:
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

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Norm of x [..., size], or of a float32 residual, over the last dimension -> new tensor."""
        return ops.rms_norm(x, self.weight, self.eps, self.dtype)

    def add(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Add x to the residual in place -> norm of the sum."""
        return ops.add_rms_norm(x, residual, self.weight, self.eps)
