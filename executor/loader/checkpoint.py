"""What the loader asks of a checkpoint, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch


class Checkpoint(Protocol):
    """Named tensors on disk. Names are transformers'; `read` may be called from several threads."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor there is."""

    def read(self, name: str, target: torch.Tensor) -> None:
        """Write a tensor into `target` (same shape, any float type and device).

        Raises:
            ConfigError: the tensor's type cannot be read, or the file ends too early.

        """
