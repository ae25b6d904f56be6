"""Weights in 8 bits. What they are is said in `octavo.kernels.ops`."""

from __future__ import annotations

import torch

from octavo.kernels import host_memory
from octavo.kernels.cpu import _native
from octavo.kernels.cpu.linear import INT8, PANEL, PackedLinear, check_weight, packed_linear, padded
from octavo.kernels.cpu.native import type_code
from octavo.kernels.reference.int8 import check_depth

BLOCK = 64
"""K packed together; csrc/linear/int8_layout.h describes the layout."""

HEAD_BYTES = 2 * 4 * PANEL
"""Beside each panel."""


def pack_int8(weight: torch.Tensor, bias: torch.Tensor | None = None, gated: bool = False) -> PackedLinear:
    """See `ops.pack_int8`. The weight's memory is free as soon as the caller drops it.

    Raises:
        ValueError: the rows are too long, or the bias does not fit.
    """
    check_weight(weight, bias, weight.dtype)
    n, k = weight.shape
    check_depth(k)
    panel_bytes = HEAD_BYTES + -(-k // BLOCK) * BLOCK * PANEL
    data = host_memory.empty_packed((padded(n) // PANEL * panel_bytes,), torch.uint8)
    _native.pack_int8(type_code(weight), gated, data.data_ptr(), weight.data_ptr(), weight.stride(0), n, k)
    return packed_linear(INT8, data, (n, k), bias, gated, weight.dtype, integer=True)
