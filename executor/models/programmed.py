"""What models have in common that record programs, whatever these compute: compiled when they are needed, planned, timed."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from typing import ClassVar

from octavo.cache_groups import CacheSpec
from octavo.executor.attention import RowInputs
from octavo.executor.layers.module import Module
from octavo.executor.models.programs import Programs
from octavo.kernels.plan import plan
from octavo.kernels.program import TOKENS, Program


class Programmed(Module, abc.ABC):
    """A model whose computations are programs; see `contract.Model`."""

    cache_specs: Sequence[CacheSpec] = ()
    row_inputs: Sequence[str] = ()
    unused_weights: Sequence[str] = ()
    text_program: ClassVar[str] = "body"
    """Name of the program that a step of text runs."""

    def __init__(self) -> None:
        self._programs = Programs()

    @abc.abstractmethod
    def record(self, name: str, layer_groups: Sequence[int]) -> Program:
        """The program of a name, for caches of these groups."""

    def parts(self) -> Iterator[Module]:
        """See `Model.parts`."""
        return self.children()

    def check_inputs(self, inputs: RowInputs, num_tokens: int) -> None:
        """See `Model.check_inputs`."""
        unknown = sorted(set(inputs) - set(self.row_inputs))
        if unknown:
            known = ", ".join(self.row_inputs) or "none"
            raise ValueError(f"the model takes no input {unknown[0]!r}; it knows {known}")

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
