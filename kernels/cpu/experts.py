"""Mixtures of experts out of the native products."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from octavo.kernels.cpu.linear import PackedLinear, gated_linear, linear
from octavo.kernels.program_ops import Activation


def experts(
    x: torch.Tensor,
    router: torch.Tensor,
    gate_up: Sequence[PackedLinear],
    down: Sequence[PackedLinear],
    activation: Activation,
    top_k: int,
    renormalize: bool,
) -> torch.Tensor:
    """See `ops.experts`."""
    probabilities = torch.softmax(router.float(), dim=-1)
    order = torch.sort(probabilities, dim=-1, descending=True, stable=True).indices[:, :top_k]
    shares = torch.zeros_like(probabilities).scatter_(1, order, probabilities.gather(1, order))
    if renormalize:
        shares /= shares.sum(dim=-1, keepdim=True)
    out = torch.zeros(x.shape, dtype=torch.float32)
    for expert, (first, second) in enumerate(zip(gate_up, down, strict=True)):
        rows = shares[:, expert].nonzero().flatten()
        if len(rows):
            given = linear(gated_linear(x[rows], first, activation), second, wide=True)
            out[rows] += given * shares[rows, expert].unsqueeze(1)
    return out.to(x.dtype)
