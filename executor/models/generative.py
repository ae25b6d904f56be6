"""What models that generate text have in common, whatever their layers: a head, and programs compiled when they are needed."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch

from octavo.cache_groups import CacheSpec
from octavo.executor.layers.embedding import LMHead
from octavo.executor.layers.module import Module
from octavo.executor.models.programs import Programs
from octavo.kernels.plan import plan
from octavo.kernels.program import TOKENS, Program


class Generative(Module, abc.ABC):
    """A model with a head over the vocabulary. A page sets `head` and records its programs; see `contract.Model`."""

    head: LMHead
    cache_specs: Sequence[CacheSpec]
    text_program: ClassVar[str] = "ids"
    """Name of the program that a step of text runs."""

    def __init__(self) -> None:
        self._programs = Programs()

    @abc.abstractmethod
    def record(self, name: str, layer_groups: Sequence[int]) -> Program:
        """The program of a name, for caches of these groups."""

    def parts(self) -> Iterator[Module]:
        """See `Model.parts`."""
        return self.children()

    def activation_bytes(self, num_tokens: int) -> int:
        """See `Model.activation_bytes`; of the program that begins a step of text."""
        program = self.record(self.text_program, [0] * len(self.cache_specs))
        return plan(program).peak_bytes({TOKENS: num_tokens})

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
