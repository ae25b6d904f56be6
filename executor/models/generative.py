"""What models that generate text have in common, whatever their layers: a head, and programs compiled when they are needed."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence

import torch

from octavo.executor.layers.embedding import LMHead
from octavo.executor.layers.module import Module
from octavo.executor.models.programs import Programs
from octavo.kernels.program import Program


class Generative(Module, abc.ABC):
    """A model with a head over the vocabulary. A page sets `head` and records its programs; see `contract.Model`."""

    head: LMHead

    def __init__(self) -> None:
        self._programs = Programs()

    @abc.abstractmethod
    def record(self, name: str, layer_groups: Sequence[int]) -> Program:
        """The program of a name, for caches of these groups."""

    def parts(self) -> Iterator[Module]:
        """See `Model.parts`."""
        return self.children()

    def forget_caches(self) -> None:
        """See `Model.forget_caches`."""
        self._programs.forget()

    def profile(self, enable: bool) -> bool:
        """See `Model.profile`."""
        return self._programs.profile(enable)

    def timings(self) -> dict[str, float]:
        """See `Model.timings`."""
        return self._programs.timings()

    @torch.inference_mode()
    def compute_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of hidden states [R, H] -> float32 [R, V], scaling and soft cap applied."""
        return self.head(hidden)

    @torch.inference_mode()
    def sample(self, hidden: torch.Tensor, draws: torch.Tensor | None, tokens: torch.Tensor, peaks: torch.Tensor) -> None:
        """`ops.sample` of the logits of hidden states [R, H], drawing from all tokens."""
        self.head.sample(hidden, draws, tokens, peaks)
