"""Operations on rows: norms and activations. What they do is said in `octavo.kernels.ops`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from octavo.kernels.cpu import _native
from octavo.kernels.cpu.native import check_rows, type_code
from octavo.kernels.program_ops import Pointwise


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype | None = None) -> torch.Tensor:
    """See `ops.rms_norm`."""
    check_rows("x", x)
    if dtype not in (None, x.dtype):
        return _norm_of_residual(None, x, weight, eps, dtype)
    outer, inner = x.shape[0], x.shape[1] if x.dim() == 3 else 1
    inner_stride = x.stride(1) if x.dim() == 3 else 0
    out = torch.empty(x.shape, dtype=x.dtype)
    _native.rms_norm(
        type_code(x), _weight_code(x, weight), False, out.data_ptr(), x.data_ptr(), x.stride(0), inner_stride, 0, 0,
        weight.data_ptr(), 0, False, outer, inner, x.shape[-1], eps,
    )  # fmt: skip
    return out


def layer_norm(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, eps: float, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """See `ops.layer_norm`."""
    check_rows("x", x)
    if bias is not None and bias.dtype != weight.dtype:
        raise ValueError(f"weight and bias must share a type, got {weight.dtype} and {bias.dtype}")
    if dtype not in (None, x.dtype):
        return layer_norm(x.flatten(0, -2), weight, bias, eps).view(x.shape).to(dtype)
    outer, inner = x.shape[0], x.shape[1] if x.dim() == 3 else 1
    inner_stride = x.stride(1) if x.dim() == 3 else 0
    out = torch.empty(x.shape, dtype=x.dtype)
    _native.rms_norm(
        type_code(x), _weight_code(x, weight), False, out.data_ptr(), x.data_ptr(), x.stride(0), inner_stride, 0, 0,
        weight.data_ptr(), 0 if bias is None else bias.data_ptr(), True, outer, inner, x.shape[-1], eps,
    )  # fmt: skip
    return out


def add_rms_norm(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """See `ops.add_rms_norm`."""
    check_rows("x", x)
    if residual.shape != x.shape:
        raise ValueError(f"residual must have x's shape {list(x.shape)}, got {list(residual.shape)}")
    return _norm_of_residual(x, residual, weight, eps, x.dtype)


def _norm_of_residual(
    x: torch.Tensor | None, residual: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype
) -> torch.Tensor:
    """Norm of the residual [T, H] as `dtype`, after adding x to it where there is one."""
    check_rows("residual", residual)
    if residual.dtype not in (dtype, torch.float32):
        raise ValueError(f"residual must be {dtype} or float32, got {residual.dtype}")
    out = torch.empty(residual.shape, dtype=dtype)
    where, stride = (0, 0) if x is None else (x.data_ptr(), x.stride(0))
    _native.rms_norm(
        type_code(out), _weight_code(out, weight), residual.dtype == torch.float32, out.data_ptr(), where, stride, 0,
        residual.data_ptr(), residual.stride(0), weight.data_ptr(), 0, False, residual.shape[0], 1, residual.shape[1], eps,
    )  # fmt: skip
    return out


def _weight_code(x: torch.Tensor, weight: torch.Tensor) -> int:
    if weight.dtype not in (x.dtype, torch.float32) or weight.shape != x.shape[-1:] or not weight.is_contiguous():
        raise ValueError(
            f"weight must be {x.dtype} or float32 of shape {list(x.shape[-1:])}, got {weight.dtype} {list(weight.shape)}"
        )
    return type_code(weight)


POINTWISE: dict[Pointwise, int] = {"gelu": 0, "gelu_tanh": 1, "relu": 2, "silu": 3, "tanh": 4}
"""As csrc/base/kernels.h numbers them."""


def activate(x: torch.Tensor, activation: Pointwise) -> torch.Tensor:
    """See `ops.activate`."""
    check_rows("x", x)
    out = torch.empty(x.shape, dtype=x.dtype)
    _native.activate(type_code(x), POINTWISE[activation], out.data_ptr(), x.data_ptr(), x.stride(0), x.shape[0], x.shape[1])
    return out


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
