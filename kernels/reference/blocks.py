"""Weights in a GGUF file's blocks, and products with them in 8-bit integers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from octavo.kernels.blocks import Blocks
from octavo.kernels.reference.packed import PackedLinear

BLOCK = 32
"""Successive values of a row of x that share a scale."""

LARGEST = 127
"""The largest integer."""

SMALLEST_MAGNITUDE = 1e-30
"""What is less counts as zero."""


@dataclass(frozen=True, slots=True)
class BlocksLinear:
    """A weight [N, K] with the values that its blocks stand for, and its bias [N]."""

    weight: torch.Tensor
    """float32."""
    bias: torch.Tensor | None
    dtype: torch.dtype
    """Of x."""

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """X [T, K] -> float32 [T, N], bias added."""
        return F.linear(rounded(x), self.weight, None if self.bias is None else self.bias.float())

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows [T, K] of the weight for ids [T]."""
        return F.embedding(ids, self.weight).to(self.dtype)


def pack_blocks(
    blocks: Blocks, dtype: torch.dtype, bias: torch.Tensor | None = None, gated: bool = False, integer: bool = False  # noqa: ARG001
) -> BlocksLinear | PackedLinear:  # fmt: skip
    """See `ops.pack_blocks`; gates and ups stay as they are."""
    # Here, as the package takes its time to import, and only this form of weight needs it.
    import gguf

    blocks.check(dtype, bias)
    values = gguf.quants.dequantize(blocks.data.cpu().numpy(), gguf.GGMLQuantizationType[blocks.kind.name])
    weight = torch.from_numpy(values).to(blocks.data.device)
    return BlocksLinear(weight, bias, dtype) if integer else PackedLinear(weight.to(dtype), bias)


def rounded(x: torch.Tensor) -> torch.Tensor:
    """Rows [T, K] as integers with a scale a block leave them: float32 [T, K]."""
    parts = x.float().unflatten(1, (-1, BLOCK))
    magnitude = parts.abs().amax(dim=2, keepdim=True)
    # A number divided by a tensor would be the tensor's reciprocal times the number, rounded twice.
    inverse = torch.where(magnitude < SMALLEST_MAGNITUDE, 0.0, torch.full_like(magnitude, LARGEST) / magnitude)
    scale = torch.where(magnitude < SMALLEST_MAGNITUDE, 0.0, magnitude / LARGEST)
    scale = scale.where(magnitude.isfinite(), torch.nan)
    return (torch.round(parts * inverse) * scale).flatten(1)
