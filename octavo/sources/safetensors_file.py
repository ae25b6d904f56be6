"""The headers of safetensors files and the index that joins them: what is where, checked, without touching the weights."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from octavo.checked import shown
from octavo.errors import ConfigError
from octavo.strict_json import parse_object, read_bytes

INDEX = "model.safetensors.index.json"
SUPERFLUOUS = ("rotary_emb.inv_freq", "lm_head.weight", "masked_bias", "position_ids")
"""Endings of names that some checkpoints carry though nobody needs them (lm_head.weight beside a tied embedding)."""

_LARGEST_HEADER = 4 << 20
"""Bytes, of an index too: 30,000 tensors."""
_MOST_DIMENSIONS = 8
_NAMED = 8
_LONGEST_FILE_NAME = 255
_MOST_FILES = 4096
_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "I16": 16, "U16": 16, "I32": 32, "U32": 32, "I64": 64, "U64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
_READABLE = ("F64", "F32", "F16", "BF16")

_Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]


class _Info(msgspec.Struct, forbid_unknown_fields=True):
    dtype: str
    shape: Annotated[list[_Size], msgspec.Meta(max_length=_MOST_DIMENSIONS)]
    data_offsets: tuple[_Size, _Size]


class _Index(msgspec.Struct, forbid_unknown_fields=True):
    weight_map: dict[str, str]
    metadata: dict[str, str | int | float | bool | None] = {}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor's place."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """From the beginning of the file."""
    size: int
    """Bytes."""


def read_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of a checkpoint: one file, several with an index, or several without.

    Raises:
        ConfigError: no files, files missing that the index names, a name in two files, or a damaged file.

    """
    owners, files = _files(folder)
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        for name, tensor in read_header(file).items():
            if owners.get(name, file.name) != file.name:
                continue
            if name in tensors:
                raise ConfigError(f"{file}: tensor {shown(name)} is in {tensors[name].file.name} too")
            tensors[name] = tensor
    return tensors


def check_readable(tensors: Mapping[str, StoredTensor]) -> None:
    """Raises: ConfigError: a tensor that belongs to a model is of a type that cannot be read."""
    for name, tensor in tensors.items():
        if tensor.dtype not in _READABLE and not name.endswith(SUPERFLUOUS):
            raise ConfigError(f"{tensor.file}: tensor {name} is of type {tensor.dtype}; readable are {', '.join(_READABLE)}")


def read_header(path: Path) -> dict[str, StoredTensor]:
    """A file's table of tensors: a length of 8 bytes, that much JSON, then the tensors' bytes without a gap.

    Raises:
        ConfigError: the file is not laid out like that, or cut off.

    """
    header, end = _header_bytes(path)
    infos = _infos(path, header)
    start = 8 + len(header)
    at = 0
    for name, info in sorted(infos.items(), key=lambda item: item[1].data_offsets):
        begin, stop = info.data_offsets
        if begin != at or stop < begin:
            raise _damaged(path, f"tensor {shown(name)} has data_offsets {[begin, stop]}, the one before ends at {at}")
        at = stop
        if start + at > end:
            raise ConfigError(f"{path} is incomplete: it ends before tensor {name}")
    if start + at != end:
        raise _damaged(path, f"{end - start - at} bytes follow the last tensor")
    return {name: _tensor(path, name, info, start) for name, info in infos.items()}


def _header_bytes(path: Path) -> tuple[bytes, int]:
    """The JSON, and the size of the file."""
    try:
        with path.open("rb") as file:
            end = os.fstat(file.fileno()).st_size
            prefix = file.read(8)
            (length,) = struct.unpack("<Q", prefix) if len(prefix) == 8 else (0,)
            if not 2 <= length <= min(_LARGEST_HEADER, end - 8):
                raise _damaged(path, f"a header of {length} bytes, where 2 to {min(_LARGEST_HEADER, max(end - 8, 2))} may be")
            return file.read(length), end
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error


def _infos(path: Path, header: bytes) -> dict[str, _Info]:
    try:
        # First of all the types, which costs no memory for what is of none; then what this decoder overlooks.
        raw = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        msgspec.json.decode(raw.pop("__metadata__", b"{}"), type=dict[str, str])
        infos = {name: _one_info(name, info) for name, info in raw.items()}
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise _damaged(path, str(error)) from error
    parse_object(header, str(path))
    return infos


def _one_info(name: str, info: msgspec.Raw) -> _Info:
    try:
        return msgspec.json.decode(info, type=_Info)
    except msgspec.MsgspecError as error:
        raise msgspec.ValidationError(f"tensor {shown(name)}: {error}") from error


def _tensor(path: Path, name: str, info: _Info, start: int) -> StoredTensor:
    begin, stop = info.data_offsets
    bits = _BITS.get(info.dtype)
    if bits is None:
        raise _damaged(path, f"tensor {shown(name)} is of unknown type {shown(info.dtype)}; there are {', '.join(_BITS)}")
    needed = -(-math.prod(info.shape) * bits // 8)
    if needed != stop - begin:
        raise _damaged(path, f"tensor {shown(name)} of shape {info.shape} and type {info.dtype} in {stop - begin} bytes")
    return StoredTensor(path, info.dtype, tuple(info.shape), start + begin, stop - begin)


def _damaged(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path} is not a safetensors file or is damaged: {why}")


def _files(folder: Path) -> tuple[dict[str, str], list[Path]]:
    """Which file the index says each tensor is in, and the files."""
    if (folder / "model.safetensors").is_file():
        return {}, [folder / "model.safetensors"]
    if (folder / INDEX).is_file():
        return _indexed(folder)
    files = sorted(file for file in folder.glob("*.safetensors") if not file.name.startswith("consolidated"))
    if not files:
        raise ConfigError(f"{folder} holds no .safetensors files")
    return {}, files


def _is_file_name(name: str) -> bool:
    """Whether a name can only be that of a safetensors file beside the index."""
    printable = name.isprintable() and len(name.encode()) <= _LONGEST_FILE_NAME
    return printable and os.path.basename(name) == name and name.endswith(".safetensors")


def _indexed(folder: Path) -> tuple[dict[str, str], list[Path]]:
    index = folder / INDEX
    data = read_bytes(index, _LARGEST_HEADER)
    try:
        weight_map: dict[str, Any] = msgspec.json.decode(data, type=_Index).weight_map
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ConfigError(f"{index} is damaged: {error}") from error
    parse_object(data, str(index))
    names = sorted(set(weight_map.values()))
    outside = [name for name in names if not _is_file_name(name)]
    if outside:
        raise ConfigError(f"{index}: weight_map must name .safetensors files beside it, got {shown(outside[0])}")
    if not 1 <= len(names) <= _MOST_FILES:
        raise ConfigError(f"{index}: weight_map must name 1 to {_MOST_FILES} files, got {len(names)}")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise ConfigError(f"{folder} lacks {', '.join(missing[:_NAMED])}{more}, which {index.name} names")
    return weight_map, [folder / name for name in names]
