"""What may come next in a request's output, by the rules of a grammar."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from octavo.executor.step import Masks, ints


class Constraint(Protocol):
    """Follows one request's output, and lives as long as the request: a preemption takes no token back."""

    def fill(self, bits: npt.NDArray[np.int32]) -> None:
        """Say which tokens may come next: bit i % 32 of word i // 32 of bits [ceil(V / 32)], all 0 before, allows token i.

        Where the output may end, the tokens that end it are among them.
        """

    def accept(self, token_id: int) -> bool:
        """Go on by a token that ends nothing; False, and nothing changes, where it may not come next."""

    @property
    def complete(self) -> bool:
        """Whether the last token ended the output, although the request has its end tokens ignored."""


def masks_of(constraints: Mapping[int, Constraint], vocab_size: int) -> Masks:
    """What rows may sample, given by row whom they follow; no token of theirs is unknown."""
    bits = np.zeros((len(constraints), -(-vocab_size // 32)), np.int32)
    for constraint, allowed in zip(constraints.values(), bits, strict=True):
        constraint.fill(allowed)
    return Masks(ints(list(constraints)), bits)
