"""What models that generate text have in common, whatever their layers: a head over the vocabulary."""

from __future__ import annotations

from typing import ClassVar

import torch

from octavo.executor.layers.embedding import LMHead
from octavo.executor.models.programmed import Programmed


class Generative(Programmed):
    """A model with a head over the vocabulary. A page sets `head` and records its programs; see `contract.Model`."""

    head: LMHead
    text_program: ClassVar[str] = "ids"

    @torch.inference_mode()
    def compute_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of hidden states [R, H] -> float32 [R, V], scaling and soft cap applied."""
        return self.head(hidden)

    @torch.inference_mode()
    def sample(self, hidden: torch.Tensor, draws: torch.Tensor | None, tokens: torch.Tensor, peaks: torch.Tensor) -> None:
        """`ops.sample` of the logits of hidden states [R, H], drawing from all tokens."""
        self.head.sample(hidden, draws, tokens, peaks)
