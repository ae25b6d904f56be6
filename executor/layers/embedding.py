"""Token embedding and the head that turns hidden states into logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from octavo.executor.layers.held import HeldMatrix
from octavo.executor.layers.linear import Placement, Product
from octavo.executor.layers.module import Module
from octavo.executor.layers.weights import Slot
from octavo.kernels import ops
from octavo.kernels.program import Value
from octavo.kernels.program_ops import Embed


class TokenEmbedding(Module):
    """A row of the table for each token, times a scale."""

    def __init__(self, name: str, vocab_size: int, hidden_size: int, scale: float, tied: bool, place: Placement) -> None:
        """`tied`: the head uses the table too."""
        self.name = name
        self.hidden_size = hidden_size
        self.tied = tied
        self.held: HeldMatrix | None = HeldMatrix(vocab_size, hidden_size, place)
        self.table: Any = None
        self.dtype = place.dtype
        # The scale is rounded to the weights' type, as the models were trained with it rounded.
        self.scale = torch.tensor(scale, dtype=place.dtype).item()

    def slots(self) -> Iterator[Slot]:
        """The one table."""
        if self.held is not None:
            yield Slot(f"{self.name}.weight", self.held.data, self.held)

    def finish(self) -> None:
        """Pack a table that the head uses too, or one as the checkpoint has it; rows can be looked up in the packed form."""
        if self.held is None:
            raise RuntimeError("the table is packed already")
        packs = self.tied or self.held.is_as_stored
        self.table = self.held.pack(None, gated=False) if packs else self.held.data
        self.held = None

    def __call__(self, ids: Value) -> Value:
        """Look up ids [rows, 1] -> [rows, hidden_size]."""
        out = ids.program.value(self.hidden_size, self.dtype, ids.rows)
        ids.program.add(Embed, "embed", ids=ids, table=self.table, scale=self.scale, out=out)
        return out


class LMHead(Module):
    """Hidden states to float32 logits, scaled and soft-capped; the matrix may be the embedding's."""

    def __init__(self, name: str, embedding: TokenEmbedding, own: Product | None, scale: float, soft_cap: float) -> None:
        """`own`: the head's own matrix, None when it is the embedding's."""
        self.name = name
        self.embedding = embedding
        self.own = own
        self.scale = scale
        self.soft_cap = soft_cap

    def slots(self) -> Iterator[Slot]:
        """The one weight, or none when it is the embedding's."""
        if self.own is not None and self.own.held is not None:
            yield Slot(f"{self.name}.weight", self.own.held.data, self.own.held)

    def finish(self) -> None:
        """Pack the matrix."""
        if self.own is not None:
            self.own.finish()

    @property
    def _packed(self) -> Any:
        return self.embedding.table if self.own is None else self.own.packed

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of hidden states [R, H] -> float32 [R, V]."""
        logits = ops.linear(hidden, self._packed, wide=True)
        if self.scale != 1.0:
            logits = logits.mul_(self.scale)
        if self.soft_cap:
            logits = logits.div_(self.soft_cap).tanh_().mul_(self.soft_cap)
        return logits

    def sample(self, hidden: torch.Tensor, draws: torch.Tensor | None, tokens: torch.Tensor, peaks: torch.Tensor) -> None:
        """`ops.sample` of the logits, drawing from all tokens."""
        if self.scale == 1.0 and not self.soft_cap:
            ops.sample_linear(hidden, self._packed, draws, tokens, peaks)
        else:
            ops.sample(self(hidden), draws, tokens, peaks)
