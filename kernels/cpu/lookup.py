"""Embedding rows. What it does is said in `octavo.kernels.ops`."""

from __future__ import annotations

import torch

from octavo.kernels.cpu import _native
from octavo.kernels.cpu.linear import DENSE, PackedLinear
from octavo.kernels.cpu.native import check_rows, type_code


def embedding(ids: torch.Tensor, weight: torch.Tensor | PackedLinear) -> torch.Tensor:
    """See `ops.embedding`.

    Raises:
        IndexError: an id outside the table.
    """
    if isinstance(weight, PackedLinear):
        packed, form, table, vocab_size, size = True, weight.format, weight.data, weight.n, weight.k
    else:
        packed, form, table, (vocab_size, size) = False, DENSE, weight, weight.shape
    check_rows("weight", table)
    out = torch.empty((ids.shape[0], size), dtype=weight.dtype)
    inside = _native.embedding(
        type_code(out), packed, form, out.data_ptr(), ids.contiguous().data_ptr(), ids.dtype == torch.int64,
        table.data_ptr(), table.stride(0), ids.shape[0], vocab_size, size,
    )  # fmt: skip
    if not inside:
        raise IndexError(f"token ids must lie in [0, {vocab_size}), got {int(ids.min())} to {int(ids.max())}")
    return out
