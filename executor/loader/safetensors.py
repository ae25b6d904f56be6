"""Safetensors files, read straight into the model's memory.

A tensor of the type the model wants goes from the file into its place without a copy between; others pass through a
buffer of one tensor. The file is read, not mapped: mapped pages would count against the process as a second model.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from octavo.errors import ConfigError

_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_LONGEST_HEADER = 100 << 20


@dataclass(frozen=True, slots=True)
class _Entry:
    """One tensor's place."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


class SafetensorsCheckpoint:
    """A folder with one safetensors file or several."""

    def __init__(self, folder: Path) -> None:
        """Raises: ConfigError: no files, files missing that the index names, or a damaged file."""
        self._entries: dict[str, _Entry] = {}
        for file in _files(folder):
            self._entries.update(_read_header(file))

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor there is."""
        return {name: entry.shape for name, entry in self._entries.items()}

    def read(self, name: str, target: torch.Tensor) -> None:
        """See `Checkpoint.read`."""
        entry = self._entries[name]
        dtype = _TYPES.get(entry.dtype)
        if dtype is None:
            raise ConfigError(f"{entry.file}: tensor {name} is of type {entry.dtype}; readable are {', '.join(_TYPES)}")
        if target.dtype == dtype and target.device.type == "cpu" and target.is_contiguous():
            _read_into(entry, target)
            return
        buffer = torch.empty(entry.shape, dtype=dtype)
        _read_into(entry, buffer)
        target.copy_(buffer)


def _files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise ConfigError(f"{index} is damaged: {error!r}") from error
        # Names come from a downloaded file: keep them inside the folder.
        files = [folder / Path(name).name for name in names]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise ConfigError(f"{folder} lacks {', '.join(missing)}, which {index.name} names")
        return files
    files = sorted(file for file in folder.glob("*.safetensors") if not file.name.startswith("consolidated"))
    if not files:
        raise ConfigError(f"{folder} holds no .safetensors files")
    return files


def _read_header(path: Path) -> dict[str, _Entry]:
    """Table of tensors: a length of 8 bytes, that much JSON, then the tensors' bytes."""
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        try:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(_LONGEST_HEADER, end):
                raise ValueError(f"header of {length} bytes")
            header: dict[str, Any] = json.loads(file.read(length))
            header.pop("__metadata__", None)
            entries = {name: _entry(path, info, 8 + length) for name, info in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            raise ConfigError(f"{path} is not a safetensors file or is damaged: {error!r}") from error
    for name, entry in entries.items():
        if entry.offset + entry.size > end:
            raise ConfigError(f"{path} is incomplete: it ends before tensor {name}")
    return entries


def _entry(path: Path, info: dict[str, Any], start: int) -> _Entry:
    begin, stop = info["data_offsets"]
    shape = tuple(info["shape"])
    entry = _Entry(path, info["dtype"], shape, start + begin, stop - begin)
    dtype = _TYPES.get(entry.dtype)
    if begin < 0 or (dtype is not None and entry.size != math.prod(shape) * dtype.itemsize):
        raise ValueError(f"tensor of shape {shape} and type {entry.dtype} in {entry.size} bytes")
    return entry


def _read_into(entry: _Entry, target: torch.Tensor) -> None:
    memory = target.flatten().view(torch.uint8).numpy().data
    with entry.file.open("rb", buffering=0) as file:
        file.seek(entry.offset)
        done = 0
        while done < len(memory):
            count = file.readinto(memory[done:])
            if not count:
                raise ConfigError(f"{entry.file} ended while it was read; is it still being written?")
            done += count
