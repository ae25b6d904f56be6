"""The residual stream of a model: which ops blocks enter and leave it by."""

from __future__ import annotations

import torch

from octavo.executor.layers.linear import ColumnLinear, GatedLinear, RowLinear
from octavo.executor.layers.norm import LayerNorm, RMSNorm
from octavo.kernels.program import Border, Value
from octavo.kernels.program_ops import Activation, LinearAdd, Norm, NormLinear, NormWeight, Widen


class Residual:
    """A sum over blocks, kept in float32: in 16 bits every addition of some hundred would round.

    What a block gives is added by its last product, or where a norm comes first by the norm that comes next: addition, norm and
    product are one pass over memory.

    Args:
        embeddings: [tokens, H], where it begins.
    """

    def __init__(self, embeddings: Value) -> None:
        self._program = embeddings.program
        self._dtype = embeddings.dtype
        self._total = self._program.value(embeddings.width, torch.float32, embeddings.rows)
        self._waiting: Value | None = None
        self._program.add(Widen, "embed", x=embeddings, out=self._total)

    def enter(self, norm: RMSNorm | LayerNorm | None, product: ColumnLinear, gate: Activation | None = None) -> Value:
        """The stream, normed (None: only rounded) and multiplied: what a block begins with.

        Args:
            norm: before the block.
            product: its first one; label and weight.
            gate: activation of a GatedLinear.
        """
        if (gate is not None) is not isinstance(product, GatedLinear):
            raise ValueError(f"{product.label}: a gated product has an activation, and no other has")
        out = self._value(product.width, self._dtype)
        self._program.add(
            NormLinear, product.label, **self._norm(norm), weight=product.packed, gate=gate,
            normed=self._value(self._total.width, self._dtype), out=out,
        )  # fmt: skip
        return out

    def leave(self, x: Value, product: RowLinear, norm: RMSNorm | LayerNorm | None = None, scale: float = 1.0) -> None:
        """Add scale * product(x), or norm(product(x)), to the stream.

        Raises:
            ValueError: a scale behind a norm, which no model has.
        """
        if norm is None:
            total = self._value(self._total.width, torch.float32)
            self._program.add(
                LinearAdd, product.label, x=x, weight=product.packed, scale=scale, total=self._settled(), out=total
            )
            self._total = total
        elif scale != 1.0:
            raise ValueError(f"{product.label}: what leaves a block through a norm is not scaled")
        else:
            self._waiting = norm(product(x))

    def border(self, line: str = "") -> None:
        """A layer begins here: a pipeline may cut the program, and what crosses is the stream.

        Args:
            line: of the layer on its page.
        """
        self._program.page_line = line
        crossing = (self._total,) if self._waiting is None else (self._total, self._waiting)
        self._program.borders.append(Border(len(self._program.ops), crossing))

    def end(self, norm: RMSNorm | LayerNorm) -> Value:
        """The stream after the last block, normed."""
        self._program.page_line = ""
        return self.normed(norm)

    def normed(self, norm: RMSNorm | LayerNorm | None) -> Value:
        """The stream, normed (None: only rounded): what a block begins with that does not begin with one product."""
        out = self._value(self._total.width, self._dtype)
        self._program.add(Norm, "norm", **self._norm(norm), parts=1, out=out)
        return out

    def add(self, x: Value) -> None:
        """Add x to the stream, with the norm that comes next."""
        self._settled()
        self._waiting = x

    def _norm(self, norm: RMSNorm | LayerNorm | None) -> dict[str, Value | NormWeight | None]:
        """Operands of an op that adds what waits and norms the sum."""
        weight = NormWeight(None, 0.0) if norm is None else norm.operand
        before, addend, self._waiting = self._total, self._waiting, None
        if addend is None:
            return {"x": before, "addend": None, "norm": weight, "total": None}
        self._total = self._value(before.width, torch.float32)
        return {"x": before, "addend": addend, "norm": weight, "total": self._total}

    def _settled(self) -> Value:
        if self._waiting is not None:
            raise ValueError("a block leaves before another one has been entered")
        return self._total

    def _value(self, width: int, dtype: torch.dtype) -> Value:
        return self._program.value(width, dtype, self._total.rows)
