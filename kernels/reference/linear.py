"""Matrix products and embedding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """A weight [N, K] as torch has it, and its bias [N]."""

    weight: torch.Tensor
    bias: torch.Tensor | None


def pack_linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> PackedLinear:
    """See `ops.pack_linear`."""
    return PackedLinear(weight, bias)


def linear(x: torch.Tensor, packed: PackedLinear, wide: bool = False) -> torch.Tensor:
    """See `ops.linear`."""
    if wide and x.dtype != torch.float32:
        bias = None if packed.bias is None else packed.bias.float()
        return F.linear(x.float(), packed.weight.float(), bias)
    return F.linear(x, packed.weight, packed.bias)


def embedding(ids: torch.Tensor, weight: torch.Tensor | PackedLinear) -> torch.Tensor:
    """See `ops.embedding`."""
    return F.embedding(ids, weight.weight if isinstance(weight, PackedLinear) else weight)
