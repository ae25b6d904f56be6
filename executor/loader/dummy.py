"""Random weights, for measuring and testing without a checkpoint."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import torch

_SPREAD = 0.02
"""Standard deviation, the usual one of initialization."""


class DummyCheckpoint:
    """Has every tensor a model asks for. A tensor's values depend on the seed and its name alone."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], seed: int) -> None:
        self.shapes = shapes
        self.seed = seed

    def read(self, name: str, target: torch.Tensor) -> None:
        """See `Checkpoint.read`. Norms vary around what transformers initializes them with in Llama, one."""
        generator = torch.Generator().manual_seed(self.seed ^ zlib.crc32(name.encode()))
        values = torch.empty(target.shape).normal_(0.0, _SPREAD, generator=generator)
        target.copy_(values + 1 if "norm" in name else values)
