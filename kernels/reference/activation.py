"""Activations, gated and plain."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from octavo.kernels.program_ops import Pointwise
from octavo.kernels.reference.dtypes import compute_type

_POINTWISE: dict[Pointwise, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


def activate(x: torch.Tensor, activation: Pointwise) -> torch.Tensor:
    """See `ops.activate`."""
    return _POINTWISE[activation](x.to(compute_type(x.dtype))).to(x.dtype)


def silu_and_mul(x: torch.Tensor) -> torch.Tensor:
    """See `ops.silu_and_mul`."""
    gate, up = x.to(compute_type(x.dtype)).chunk(2, dim=-1)
    return (F.silu(gate) * up).to(x.dtype)


def gelu_and_mul(x: torch.Tensor) -> torch.Tensor:
    """See `ops.gelu_and_mul`."""
    gate, up = x.to(compute_type(x.dtype)).chunk(2, dim=-1)
    return (F.gelu(gate, approximate="tanh") * up).to(x.dtype)
