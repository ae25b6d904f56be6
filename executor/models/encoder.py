"""What models that read whole texts have in common: one body over the tokens of a step, without caches."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import torch

from octavo.executor.attention import AttentionMetadata, KVCache
from octavo.executor.models.programmed import Programmed
from octavo.kernels.program import Program


class Encoder(Programmed):
    """A body from named inputs, int64 [tokens, 1], to hidden states. A request's tokens are all in one step."""

    @abc.abstractmethod
    def body(self, program: Program) -> None:
        """Record the body: set `program.outputs["hidden"]`."""

    @abc.abstractmethod
    def inputs(self, input_ids: torch.Tensor, positions: torch.Tensor, attn: AttentionMetadata) -> dict[str, torch.Tensor]:
        """What the body reads, int64 [T] each."""

    def record(self, name: str, _layer_groups: Sequence[int] = ()) -> Program:
        """The body."""
        program = Program(name)
        self.body(program)
        return program

    @torch.inference_mode()
    def forward(
        self, input_ids: torch.Tensor, positions: torch.Tensor, kv_caches: list[KVCache], attn: AttentionMetadata
    ) -> torch.Tensor:
        """See `Model.forward`."""
        inputs = self.inputs(input_ids, positions, attn)
        return self._programs.get(self.record, "body", kv_caches, ()).run(inputs, attn)["hidden"]
