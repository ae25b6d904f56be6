"""Token embedding and the head that turns hidden states into logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from octavo.executor.layers.linear import Placement
from octavo.executor.layers.weights import Slot
from octavo.kernels import ops


class TokenEmbedding:
    """A row of the table for each token, times a scale."""

    def __init__(self, name: str, vocab_size: int, hidden_size: int, scale: float, place: Placement) -> None:
        self.name = name
        self.weight = place.empty(vocab_size, hidden_size)
        # The scale is rounded to the weights' type, as the models were trained with it rounded.
        self.scale = torch.tensor(scale, dtype=place.dtype).item()

    def slots(self) -> Iterator[Slot]:
        """The one table."""
        yield Slot(f"{self.name}.weight", self.weight)

    def finish(self) -> None:
        """Nothing to do."""

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids [T] -> new tensor [T, hidden_size]."""
        rows = ops.embedding(ids, self.weight)
        return rows if self.scale == 1.0 else rows.mul_(self.scale)


class LMHead:
    """Hidden states to float32 logits; its matrix may be the embedding's."""

    def __init__(
        self, name: str, tied: TokenEmbedding | None, shape: tuple[int, int], scale: float, soft_cap: float, place: Placement
    ) -> None:
        self.name = name
        self.tied = tied
        self.weight: torch.Tensor | None = None if tied else place.empty(*shape)
        self.scale = scale
        self.soft_cap = soft_cap
        self.packed: Any = None

    def slots(self) -> Iterator[Slot]:
        """The one weight, or none when it is the embedding's."""
        if self.weight is not None:
            yield Slot(f"{self.name}.weight", self.weight)

    def finish(self) -> None:
        """Pack the matrix."""
        if self.tied is not None:
            self.packed = ops.pack_linear(self.tied.weight)
        elif self.weight is not None:
            self.packed = ops.pack_linear(self.weight)
        self.weight = None

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden [R, H] -> float32 [R, V], scaled and soft-capped."""
        logits = ops.linear(hidden, self.packed).float()
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.soft_cap:
            logits = torch.tanh(logits / self.soft_cap) * self.soft_cap
        return logits
