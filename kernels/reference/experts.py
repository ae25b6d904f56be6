"""Mixtures of experts, token by token."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from octavo.kernels.program_ops import Activation
from octavo.kernels.reference.blocks import BlocksLinear
from octavo.kernels.reference.int8 import Int8Linear
from octavo.kernels.reference.linear import gated_linear, linear
from octavo.kernels.reference.packed import PackedLinear

_Packed = PackedLinear | Int8Linear | BlocksLinear


def experts(
    x: torch.Tensor,
    router: torch.Tensor,
    gate_up: Sequence[_Packed],
    down: Sequence[_Packed],
    activation: Activation,
    top_k: int,
    renormalize: bool,
) -> torch.Tensor:
    """See `ops.experts`."""
    probabilities = torch.softmax(router.float(), dim=-1)
    out = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
    for row in range(len(x)):
        # A stable sort keeps the first of equals first.
        chosen = sorted(torch.sort(probabilities[row], descending=True, stable=True).indices[:top_k].tolist())
        total = sum(float(probabilities[row, expert]) for expert in chosen) if renormalize else 1.0
        for expert in chosen:
            given = linear(gated_linear(x[row : row + 1], gate_up[expert], activation), down[expert], wide=True)
            out[row] += given[0].float() * (float(probabilities[row, expert]) / total)
    return out.to(x.dtype)
