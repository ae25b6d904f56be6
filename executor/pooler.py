"""From hidden states to pooled results, chunk by chunk."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from octavo.executor.transfer import to_host
from octavo.wire.pooling_spec import PoolingKind, PoolingSpec

Pooled = npt.NDArray[np.float32]


class Pooler:
    """Keeps for each pooled row of the batch what its chunks so far have given; a chunk is computed anew after a preemption."""

    def __init__(self) -> None:
        self._kinds: dict[int, PoolingKind] = {}
        self._parts: dict[int, list[Pooled]] = {}

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def add(self, row: int, spec: PoolingSpec) -> None:
        """A request joined in `row`."""
        self._kinds[row] = spec.kind
        self._parts[row] = []

    def remove(self, row: int) -> None:
        """The request in `row` left."""
        self._kinds.pop(row, None)
        self._parts.pop(row, None)

    def take(self, row: int, hidden: torch.Tensor, last: bool) -> Pooled | None:
        """Take in the next hidden states [n, H] of a row; its result, float32 [H] or [tokens, H], when they are the last ones.

        The mean is summed in float64, so that chunks do not show in float32.
        """
        parts, kind = self._parts[row], self._kinds[row]
        if kind == "last":
            return to_host(hidden[-1].float()) if last else None
        if kind == "cls":
            if not parts:
                parts.append(to_host(hidden[0].float()))
            return parts[0] if last else None
        parts.append(to_host(hidden.float()))
        if not last:
            return None
        everything = np.concatenate(parts)
        return everything if kind == "all" else everything.mean(axis=0, dtype=np.float64).astype(np.float32)
