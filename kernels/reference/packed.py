"""A weight of matrix products as torch has it."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """A weight [N, K] and its bias [N]."""

    weight: torch.Tensor
    bias: torch.Tensor | None
