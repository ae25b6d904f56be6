"""Safetensors files, read straight into the model's memory.

A tensor of the type the model wants goes from the file into its place without a copy between; others pass through a
buffer of one tensor. The file is read, not mapped: mapped pages would count against the process as a second model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from octavo.errors import ConfigError
from octavo.sources.safetensors_file import StoredTensor, check_readable, read_tensors

_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class SafetensorsCheckpoint:
    """A folder with one safetensors file or several."""

    def __init__(self, folder: Path) -> None:
        """Raises: ConfigError: no files, files missing that the index names, or a damaged file."""
        self._tensors = read_tensors(folder)
        check_readable(self._tensors)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor there is."""
        return {name: tensor.shape for name, tensor in self._tensors.items()}

    def read(self, name: str, target: torch.Tensor) -> None:
        """See `Checkpoint.read`."""
        tensor = self._tensors[name]
        dtype = _TYPES[tensor.dtype]
        if target.dtype == dtype and target.device.type == "cpu" and target.is_contiguous():
            _read_into(tensor, target)
            return
        buffer = torch.empty(tensor.shape, dtype=dtype)
        _read_into(tensor, buffer)
        target.copy_(buffer)


def _read_into(tensor: StoredTensor, target: torch.Tensor) -> None:
    memory = target.flatten().view(torch.uint8).numpy().data
    with tensor.file.open("rb", buffering=0) as file:
        file.seek(tensor.offset)
        done = 0
        while done < len(memory):
            count = file.readinto(memory[done:])
            if not count:
                raise ConfigError(f"{tensor.file} ended while it was read; is it still being written?")
            done += count
