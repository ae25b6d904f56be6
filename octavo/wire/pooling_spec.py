"""How a request's hidden states become its result, as the core and the executor need it."""

from __future__ import annotations

from typing import Literal

import msgspec

PoolingKind = Literal["cls", "max", "mean", "mean_sqrt_len", "weightedmean", "last", "all"]
"""Of the tokens' hidden states: the first, the largest of each column, the mean, the sum over the square root of their number, the mean
weighted by place (1, 2, ...), the last, or each by itself."""


class PoolingSpec(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """Which hidden states are pooled, and what becomes of the result."""

    kinds: tuple[PoolingKind, ...] = ("last",)
    """One behind the other where there are several; "all" is alone."""
    head: Literal["none", "embed", "classify"] = "none"
    """Layers behind pooling: those of an embedding model, those of a classifier, or none."""
    activate: bool = False
    """Normalize an embedding, make a classifier's logits probabilities."""
    dimensions: int | None = None
    """Numbers of an embedding to keep, before it is normalized."""

    @property
    def pools_last_only(self) -> bool:
        """Hidden states of tokens before the last one are not needed."""
        return self.kinds == ("last",)
