"""One layer of a decoder: attention and a feed-forward block around the residual stream."""

from __future__ import annotations

from typing import Protocol

from octavo.executor.layers.attention import Attention
from octavo.executor.layers.module import Module
from octavo.executor.layers.norm import RMSNorm
from octavo.executor.layers.residual import Residual
from octavo.kernels.program import Value, page_line
from octavo.kernels.program_ops import CacheRef


class FeedForward(Protocol):
    """A block that looks at each token by itself."""

    def __call__(self, residual: Residual, before: RMSNorm | None, after: RMSNorm | None, scale: float) -> None:
        """Record the block: from the residual stream and back, through the norms before and after it, times a scale."""


class DecoderLayer(Module):
    """Attention and feed-forward block, each from the residual stream and back.

    Args:
        attention, mlp: the blocks; the latter a `FeedForward`.
        before_attention, after_attention, before_mlp, after_mlp: norms on the way into and out of them; None = no norm there.
        scale: of what a block adds to the stream.
    """

    def __init__(
        self,
        attention: Attention,
        mlp: FeedForward,
        *,
        before_attention: RMSNorm | None = None,
        after_attention: RMSNorm | None = None,
        before_mlp: RMSNorm | None = None,
        after_mlp: RMSNorm | None = None,
        scale: float = 1.0,
    ) -> None:
        self.attention, self.mlp = attention, mlp
        self.before_attention, self.after_attention = before_attention, after_attention
        self.before_mlp, self.after_mlp = before_mlp, after_mlp
        self.scale = scale
        self.line = page_line()

    def __call__(self, residual: Residual, positions: Value, cache: CacheRef) -> None:
        """Record the layer, under the line of the page that made it."""
        residual.border(self.line)
        self.attention(residual, positions, cache, self.before_attention, self.after_attention, self.scale)
        self.mlp(residual, self.before_mlp, self.after_mlp, self.scale)
