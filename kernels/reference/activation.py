"""Gated activations."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from octavo.kernels.reference.dtypes import compute_type


def silu_and_mul(x: torch.Tensor) -> torch.Tensor:
    """See `ops.silu_and_mul`."""
    gate, up = x.to(compute_type(x.dtype)).chunk(2, dim=-1)
    return (F.silu(gate) * up).to(x.dtype)


def gelu_and_mul(x: torch.Tensor) -> torch.Tensor:
    """See `ops.gelu_and_mul`."""
    gate, up = x.to(compute_type(x.dtype)).chunk(2, dim=-1)
    return (F.gelu(gate, approximate="tanh") * up).to(x.dtype)
