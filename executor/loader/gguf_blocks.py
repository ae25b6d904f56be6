"""Dequantization: rows of packed blocks to float32.

The `gguf` package reads every format; the plain ones, which small models mostly come in, are done here several times
faster, to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable

import gguf
import numpy as np
import torch

Kind = gguf.GGMLQuantizationType


def dequantize(blocks: torch.Tensor, kind: Kind, out: torch.Tensor) -> None:
    """Write the values of packed blocks into `out`.

    Args:
        blocks: uint8 [N, bytes a block].
        kind: ggml type of the blocks.
        out: float32 [N, values a block], contiguous.

    """
    fast = _FAST.get(kind)
    if fast is not None:
        fast(blocks, out)
        return
    # As one long row: the package works off rows in groups of a few, at a high price each.
    values = gguf.quants.dequantize(blocks.numpy().reshape(1, -1), kind)
    out.copy_(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).view(out.shape))


def _float16(blocks: torch.Tensor, column: int) -> torch.Tensor:
    """The 16-bit number at byte `column` of each block: float32 [N, 1]."""
    return blocks[:, column : column + 2].contiguous().view(torch.float16).float()


def _nibbles(blocks: torch.Tensor, column: int, out: torch.Tensor) -> None:
    """The low halves of 16 bytes from `column` on, then their high halves."""
    packed, halves = blocks[:, column : column + 16], out.view(-1, 2, 16)
    halves[:, 0] = packed & 15
    halves[:, 1] = packed >> 4


def _q8_0(blocks: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(blocks[:, 2:].view(torch.int8)).mul_(_float16(blocks, 0))


def _q4_0(blocks: torch.Tensor, out: torch.Tensor) -> None:
    _nibbles(blocks, 2, out)
    out.sub_(8).mul_(_float16(blocks, 0))


def _q4_1(blocks: torch.Tensor, out: torch.Tensor) -> None:
    _nibbles(blocks, 4, out)
    out.mul_(_float16(blocks, 0)).add_(_float16(blocks, 2))


_FAST: dict[Kind, Callable[[torch.Tensor, torch.Tensor], None]] = {Kind.Q8_0: _q8_0, Kind.Q4_0: _q4_0, Kind.Q4_1: _q4_1}
