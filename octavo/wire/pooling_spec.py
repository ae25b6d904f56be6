"""How a request's hidden states become its result, as the core and the executor need it."""

from __future__ import annotations

from typing import Literal

import msgspec

PoolingKind = Literal["last", "mean", "cls", "all"]


class PoolingSpec(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """The last token's hidden state, the mean of all, the first one's, or those of all tokens."""

    kind: PoolingKind = "last"
