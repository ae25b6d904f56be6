"""The native library as a whole: types, instruction set, threads."""

from __future__ import annotations

import torch

from octavo.errors import ConfigError
from octavo.kernels.cpu import _native

_CODES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""As csrc/base/dtypes.h has them."""


def type_code(x: torch.Tensor) -> int:
    """`code_of` a tensor's type."""
    return code_of(x.dtype)


def code_of(dtype: torch.dtype) -> int:
    """The library's number for a type.

    Raises:
        TypeError: it has none.
    """
    code = _CODES.get(dtype)
    if code is None:
        raise TypeError(f"the cpu kernels work on float32, bfloat16 and float16, not on {dtype}")
    return code


def check_rows(name: str, x: torch.Tensor) -> None:
    """Raises:
    ValueError: the last dimension of x is not contiguous.
    """
    if x.stride(-1) != 1 and x.shape[-1] > 1:
        raise ValueError(f"{name} must be contiguous in its last dimension, got strides {x.stride()}")


def isa() -> str:
    """Instruction set whose kernels are in use."""
    return _native.isa()


def available_isas() -> list[str]:
    """Instruction sets whose kernels were built and that this processor runs, best first."""
    return _native.available_isas()


def best_isa() -> str:
    """The best instruction set that this processor runs, whether its kernels were built or not."""
    return _native.best_isa()


def set_isa(name: str) -> None:
    """Use the kernels of another instruction set; weights packed before stay valid.

    Raises:
        ConfigError: this processor does not run it.
    """
    if not _native.select_isa(name):
        raise ConfigError(f"instruction set {name!r} does not run here; choose one of {', '.join(available_isas())}")


def num_threads() -> int:
    """Threads that share a kernel's work, the caller's included."""
    return _native.num_threads()


def set_num_threads(count: int) -> None:
    """Threads that share a kernel's work; 1 until it is set.

    Raises:
        ConfigError: count < 1.
    """
    if count < 1:
        raise ConfigError(f"the number of threads must be at least 1, got {count}")
    _native.set_num_threads(count)
