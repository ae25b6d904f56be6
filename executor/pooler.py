"""From hidden states to pooled vectors, chunk by chunk. Modes as in sentence-transformers' `Pooling`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from octavo.wire.pooling_spec import PoolingKind, PoolingSpec

Pooled = npt.NDArray[np.float32]
Hidden = npt.NDArray[np.float32]
"""[tokens, H]"""


class Pooler:
    """Keeps for each pooled row of the batch what its chunks so far have given; a chunk is computed anew after a preemption."""

    def __init__(self) -> None:
        self.specs: dict[int, PoolingSpec] = {}
        self._parts: dict[int, list[_Part]] = {}

    def __bool__(self) -> bool:
        return bool(self.specs)

    def add(self, row: int, spec: PoolingSpec) -> None:
        """A request that is to be pooled joined in `row`."""
        self.specs[row], self._parts[row] = spec, [_PARTS[kind]() for kind in spec.kinds]

    def remove(self, row: int) -> None:
        """Whoever was in `row` left."""
        self.specs.pop(row, None)
        self._parts.pop(row, None)

    def take(self, row: int, hidden: Hidden, last: bool) -> Pooled | None:
        """Take in a chunk's hidden states [tokens, H].

        Returns:
            What pooling gives, [modes * H] or [tokens, H], after the last chunk, which counts as taken out.
        """
        for part in self._parts[row]:
            part.add(hidden)
        if not last:
            return None
        parts, self._parts[row] = self._parts[row], []
        vectors = [part.result() for part in parts]
        return vectors[0] if len(vectors) == 1 else np.concatenate(vectors)


class _Part:
    """What one mode has taken in."""

    def add(self, hidden: Hidden) -> None:
        """The next tokens."""
        raise NotImplementedError

    def result(self) -> Pooled:
        """Of all tokens."""
        raise NotImplementedError


class _First(_Part):
    def __init__(self) -> None:
        self._vectors: list[Pooled] = []

    def add(self, hidden: Hidden) -> None:
        if not self._vectors:
            self._vectors = [hidden[0].copy()]

    def result(self) -> Pooled:
        return self._vectors[0]


class _Last(_First):
    def add(self, hidden: Hidden) -> None:
        self._vectors = [hidden[-1].copy()]


class _Largest(_First):
    def add(self, hidden: Hidden) -> None:
        self._vectors = [np.maximum.reduce([*self._vectors, hidden.max(0)])]


class _All(_Part):
    def __init__(self) -> None:
        self._chunks: list[Hidden] = []

    def add(self, hidden: Hidden) -> None:
        self._chunks.append(hidden.copy())

    def result(self) -> Pooled:
        return self._chunks[0] if len(self._chunks) == 1 else np.concatenate(self._chunks)


class _Sum(_Part):
    """A weighted sum, in float64: how a prompt was cut into chunks does not show in float32.

    Attributes:
        divisor: of the number of tokens.
    """

    by_place = False
    divisor: Callable[[int], float] = staticmethod(float)

    def __init__(self) -> None:
        self._sum: npt.NDArray[np.float64] | float = 0.0
        self._count = 0

    def add(self, hidden: Hidden) -> None:
        wide = hidden.astype(np.float64)
        if self.by_place:
            wide *= np.arange(self._count + 1, self._count + len(hidden) + 1, dtype=np.float64)[:, None]
        self._sum = self._sum + wide.sum(0)
        self._count += len(hidden)

    def result(self) -> Pooled:
        return np.asarray(self._sum / self.divisor(self._count), np.float32)


class _RootSum(_Sum):
    divisor = staticmethod(lambda count: float(np.sqrt(count)))


class _WeightedSum(_Sum):
    by_place = True
    divisor = staticmethod(lambda count: count * (count + 1) / 2)


_PARTS: dict[PoolingKind, type[_Part]] = {
    "cls": _First,
    "max": _Largest,
    "mean": _Sum,
    "mean_sqrt_len": _RootSum,
    "weightedmean": _WeightedSum,
    "last": _Last,
    "all": _All,
}
