"""Embedding rows. What it does is said in `octavo.kernels.ops`."""

from __future__ import annotations

import torch

from octavo.kernels.cpu import _native
from octavo.kernels.cpu.linear import PackedLinear
from octavo.kernels.cpu.native import check_rows, type_code


def embedding(ids: torch.Tensor, weight: torch.Tensor | PackedLinear) -> torch.Tensor:
    """See `ops.embedding`.

    Raises:
        IndexError: an id outside the table.
    """
    if isinstance(weight, PackedLinear):
        packed, table, stride, dtype, vocab_size, size = weight.native, 0, 0, weight.dtype, weight.n, weight.k
    else:
        check_rows("weight", weight)
        packed, table, stride, dtype, (vocab_size, size) = None, weight.data_ptr(), weight.stride(0), weight.dtype, weight.shape
    out = torch.empty((ids.shape[0], size), dtype=dtype)
    inside = _native.embedding(
        type_code(out), packed, table, stride, out.data_ptr(), ids.contiguous().data_ptr(), ids.dtype == torch.int64,
        ids.shape[0], vocab_size, size,
    )  # fmt: skip
    if not inside:
        raise IndexError(f"token ids must lie in [0, {vocab_size}), got {int(ids.min())} to {int(ids.max())}")
    return out
