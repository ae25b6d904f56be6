"""Quantized matrices as GGUF files hold them: rows of blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class BlockKind:
    """One of ggml's block formats."""

    name: str
    """As ggml has it, in upper case."""
    values: int
    """In a block."""
    bytes: int
    """That a block takes."""

    def row_bytes(self, k: int) -> int:
        """Bytes of a row of k values, a multiple of a block's."""
        return k // self.values * self.bytes


BLOCK_KINDS: Mapping[str, BlockKind] = {
    name: BlockKind(name, values, size)
    for name, values, size in (
        ("Q8_0", 32, 34),
        ("Q4_0", 32, 18),
        ("Q4_1", 32, 20),
        ("Q5_0", 32, 22),
        ("Q5_1", 32, 24),
        ("Q4_K", 256, 144),
        ("Q5_K", 256, 176),
        ("Q6_K", 256, 210),
    )
}
"""Those that kernels multiply with as they are."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """A matrix [N, K]."""

    data: torch.Tensor
    """uint8 [N, bytes of a row], contiguous."""
    kind: BlockKind

    @property
    def shape(self) -> tuple[int, int]:
        """N and K."""
        n, row_bytes = self.data.shape
        return n, row_bytes // self.kind.bytes * self.kind.values

    def check(self, dtype: torch.dtype, bias: torch.Tensor | None) -> None:
        """Whether these blocks and a bias make a weight for activations of a type.

        Raises:
            ValueError: rows do not consist of whole blocks, memory is not contiguous, or the bias does not fit.
        """
        n, row_bytes = self.data.shape
        if self.data.dtype != torch.uint8 or not self.data.is_contiguous() or row_bytes % self.kind.bytes:
            raise ValueError(
                f"blocks must be contiguous uint8 [N, multiple of {self.kind.bytes}], got {self.data.dtype} {[n, row_bytes]}"
            )
        if bias is not None and (bias.shape != (n,) or bias.dtype != dtype):
            raise ValueError(f"bias must be {dtype} of shape [{n}], got {bias.dtype} {list(bias.shape)}")
