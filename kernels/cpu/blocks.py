"""Weights in a GGUF file's blocks. What they do is said in `octavo.kernels.ops`."""

from __future__ import annotations

import torch

from octavo.kernels import host_memory
from octavo.kernels.blocks import Blocks
from octavo.kernels.cpu import _native
from octavo.kernels.cpu.linear import PackedLinear, decodes, pack_linear, packed_linear
from octavo.kernels.cpu.lookup import embedding

FORMATS = {"Q8_0": 2, "Q4_0": 3, "Q4_1": 4, "Q5_0": 5, "Q5_1": 6, "Q4_K": 7, "Q5_K": 8, "Q6_K": 9}
"""As csrc/base/kernels.h numbers them."""


def pack_blocks(
    blocks: Blocks, dtype: torch.dtype, bias: torch.Tensor | None = None, gated: bool = False, integer: bool = False
) -> PackedLinear:
    """See `ops.pack_blocks`. The blocks' memory is free as soon as the caller drops it."""
    blocks.check(dtype, bias)
    if integer or decodes():
        return _packed(blocks, dtype, bias, gated, integer)
    values = embedding(torch.arange(blocks.shape[0]), _packed(blocks, dtype, None, gated=False, integer=False))
    return pack_linear(values, bias, gated)


def _packed(blocks: Blocks, dtype: torch.dtype, bias: torch.Tensor | None, gated: bool, integer: bool) -> PackedLinear:
    form, (n, k) = FORMATS[blocks.kind.name], blocks.shape
    data = host_memory.empty_packed((_native.blocks_bytes(form, n, k),), torch.uint8)
    _native.pack_blocks(form, gated, data.data_ptr(), blocks.data.data_ptr(), n, k)
    return packed_linear(form, data, (n, k), bias, gated, dtype, integer=integer)
