"""Norms."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from octavo.kernels.reference.dtypes import compute_type


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype | None = None) -> torch.Tensor:
    """See `ops.rms_norm`."""
    wide = x.to(compute_type(x.dtype))
    inverse_rms = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    return (wide * inverse_rms * weight.to(wide.dtype)).to(dtype or x.dtype)


def layer_norm(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, eps: float, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """See `ops.layer_norm`."""
    wide = x.to(compute_type(x.dtype))
    wide_bias = None if bias is None else bias.to(wide.dtype)
    return F.layer_norm(wide, wide.shape[-1:], weight.to(wide.dtype), wide_bias, eps).to(dtype or x.dtype)


def add_rms_norm(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """See `ops.add_rms_norm`. What is normed is the sum as rounded into `residual`."""
    residual.add_(x)
    return rms_norm(residual, weight, eps, x.dtype)
