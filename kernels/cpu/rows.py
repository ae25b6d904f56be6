"""Operations on rows: norms and gated activations. What they do is said in `octavo.kernels.ops`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from octavo.kernels.cpu import _native
from octavo.kernels.cpu.native import check_rows, type_code


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """See `ops.rms_norm`."""
    check_rows("x", x)
    outer, inner = x.shape[0], x.shape[1] if x.dim() == 3 else 1
    inner_stride = x.stride(1) if x.dim() == 3 else 0
    out = torch.empty(x.shape, dtype=x.dtype)
    _native.rms_norm(
        type_code(x), _weight_code(x, weight), out.data_ptr(), x.data_ptr(), x.stride(0), inner_stride, 0, 0,
        weight.data_ptr(), outer, inner, x.shape[-1], eps,
    )  # fmt: skip
    return out


def add_rms_norm(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """See `ops.add_rms_norm`."""
    check_rows("x", x)
    check_rows("residual", residual)
    if residual.shape != x.shape or residual.dtype != x.dtype:
        raise ValueError(f"residual must be like x, got {residual.dtype} {list(residual.shape)} and {x.dtype} {list(x.shape)}")
    out = torch.empty(x.shape, dtype=x.dtype)
    _native.rms_norm(
        type_code(x), _weight_code(x, weight), out.data_ptr(), x.data_ptr(), x.stride(0), 0, residual.data_ptr(),
        residual.stride(0), weight.data_ptr(), x.shape[0], 1, x.shape[1], eps,
    )  # fmt: skip
    return out


def _weight_code(x: torch.Tensor, weight: torch.Tensor) -> int:
    if weight.dtype not in (x.dtype, torch.float32) or weight.shape != x.shape[-1:] or not weight.is_contiguous():
        raise ValueError(
            f"weight must be {x.dtype} or float32 of shape {list(x.shape[-1:])}, got {weight.dtype} {list(weight.shape)}"
        )
    return type_code(weight)


def silu_and_mul(x: torch.Tensor) -> torch.Tensor:
    """See `ops.silu_and_mul`."""
    return _gate(_native.silu_and_mul, x)


def gelu_and_mul(x: torch.Tensor) -> torch.Tensor:
    """See `ops.gelu_and_mul`."""
    return _gate(_native.gelu_and_mul, x)


def _gate(kernel: Callable[..., None], x: torch.Tensor) -> torch.Tensor:
    check_rows("x", x)
    size = x.shape[1] // 2
    out = torch.empty((x.shape[0], size), dtype=x.dtype)
    kernel(type_code(x), out.data_ptr(), x.data_ptr(), x.stride(0), x.shape[0], size)
    return out
