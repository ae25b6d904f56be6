"""What a program needs to know of a step and of the caches beside its inputs, and what runs one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

Caches = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, [num_blocks, Hkv, block_size, D] with any strides but the last."""


class Step(Protocol):
    """A step's requests over the flat token dimension; see `AttentionMetadata` of the executor. R requests, T tokens."""

    query_starts: torch.Tensor
    """int32 [R + 1]"""
    seq_lens: torch.Tensor
    """int32 [R]"""
    encoder_lens: torch.Tensor
    """int32 [R], tokens that the encoder gave for each request"""
    block_tables: tuple[torch.Tensor, ...]
    """Of each cache group int32 [R, B]."""
    slot_mapping: tuple[torch.Tensor, ...]
    """Of each cache group int64 [T], contiguous."""


class Runnable(Protocol):
    """A program over a model's caches, ready to run."""

    def run(self, inputs: Mapping[str, torch.Tensor], step: Step) -> dict[str, torch.Tensor]:
        """The program's outputs, new tensors [rows, width], for its inputs [rows] or [rows, width].

        Raises:
            IndexError: an id, position, slot or block outside its table; names the op.
        """

    def profile(self, enable: bool) -> None:
        """Measure how long each op takes, from now on or no longer."""

    def timings(self) -> dict[str, float]:
        """Seconds spent in ops since the last call, added up under their labels."""
