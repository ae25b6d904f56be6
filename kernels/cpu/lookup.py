"""Embedding rows and the largest logit. What they do is said in `octavo.kernels.ops`."""

from __future__ import annotations

import torch

from octavo.kernels.cpu import _native
from octavo.kernels.cpu.linear import PackedLinear, unpack_rows
from octavo.kernels.cpu.native import check_rows


def embedding(ids: torch.Tensor, weight: torch.Tensor | PackedLinear) -> torch.Tensor:
    """See `ops.embedding`.

    Raises:
        IndexError: an id outside the table.
    """
    if isinstance(weight, PackedLinear):
        return unpack_rows(ids, weight)
    check_rows("weight", weight)
    vocab_size, size = weight.shape
    out = torch.empty((ids.shape[0], size), dtype=weight.dtype)
    inside = _native.embedding(
        weight.element_size(), out.data_ptr(), ids.contiguous().data_ptr(), ids.dtype == torch.int64, weight.data_ptr(),
        weight.stride(0), ids.shape[0], vocab_size, size,
    )  # fmt: skip
    if not inside:
        raise IndexError(f"token ids must lie in [0, {vocab_size}), got {int(ids.min())} to {int(ids.max())}")
    return out


def argmax(logits: torch.Tensor) -> torch.Tensor:
    """See `ops.argmax`."""
    logits = logits.float()
    check_rows("logits", logits)
    out = torch.empty(logits.shape[0], dtype=torch.int64)
    _native.argmax(logits.data_ptr(), logits.stride(0), logits.shape[0], logits.shape[1], out.data_ptr())
    return out
