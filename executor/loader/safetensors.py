"""Safetensors files, read straight into the model's memory.

A tensor of the type the model wants goes from the file into its place without a copy between; others pass through a
buffer of one tensor. The file is read, not mapped: mapped pages would count against the process as a second model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from octavo.errors import ConfigError
from octavo.executor.layers.weights import Part, Slot
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

    def find_parts(self, slots: Iterable[Slot]) -> None:
        """Give slots whose own tensors are not there those parts of others that are; what was divided up is there no more."""
        self._add_base("model.")
        divided = set()
        for slot in slots:
            for part in slot.others if slot.name not in self._tensors else ():
                found = _part_of(self._tensors.get(part.name), part, slot.target.shape)
                if found is not None:
                    self._tensors[slot.name] = found
                    divided.add(part.name)
        for name in divided:
            del self._tensors[name]

    def _add_base(self, base: str) -> None:
        """Give the tensors of a body that was saved alone the names that they have in a whole model."""
        if any(name.startswith(base) for name in self._tensors):
            return
        for name in [name for name in self._tensors if name.startswith(("layers.", "embed_tokens.", "norm."))]:
            self._tensors[base + name] = self._tensors.pop(name)

    def stored_dtype(self, name: str) -> torch.dtype | None:
        """See `keep_values`."""
        tensor = self._tensors.get(name)
        dtype = None if tensor is None else _TYPES[tensor.dtype]
        return dtype if dtype is not None and dtype.itemsize == 2 else None

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


def _part_of(tensor: StoredTensor | None, part: Part, shape: torch.Size) -> StoredTensor | None:
    """The rows of a tensor that a slot of some shape may take instead of its own; None where it does not fit."""
    if tensor is None or part.index is None:
        return tensor
    if len(tensor.shape) != 3 or part.index >= tensor.shape[0] or part.first_row + shape[0] > tensor.shape[1]:
        return None
    if tensor.shape[2:] != shape[1:]:
        return None
    row_bytes = tensor.size // (tensor.shape[0] * tensor.shape[1])
    start = tensor.offset + (part.index * tensor.shape[1] + part.first_row) * row_bytes
    return replace(tensor, shape=tuple(shape), offset=start, size=shape[0] * row_bytes)


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
