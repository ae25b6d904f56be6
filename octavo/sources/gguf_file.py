"""The header of a GGUF file: metadata and the table of tensors, without touching the weights.

The `gguf` package's reader builds an array object for every vocabulary entry and takes seconds on real models; this one
steps over long arrays and takes a fraction of a tenth. A file may come from anybody: every length is compared with a limit
and with what is left of the file before anything is read or allocated for it.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from octavo.checked import shown
from octavo.errors import ConfigError
from octavo.sources.ggml_types import BLOCKS

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_LONGEST_ARRAY = 1024
"""Longer arrays (vocabulary, merges) are stepped over."""

_MOST_ENTRIES = 1 << 15
"""Keys, or tensors."""
_MOST_KEPT = 1 << 17
"""Values of all keys and short arrays together."""
_MOST_SKIPPED = 1 << 21
"""Strings of all long arrays together: vocabularies have some hundred thousands, merges as many."""
_LONGEST_NAME = 256
_LONGEST_STRING = 4 << 20
_MOST_TEXT = 32 << 20
"""Bytes of all strings that are kept."""
_MOST_DIMENSIONS = 4
_LARGEST_ALIGNMENT = 1 << 20
_KNOWN_TYPES = ", ".join(f"{number} ({name})" for number, (name, _, _) in BLOCKS.items())


class _DamagedError(Exception):
    """What is wrong with the file, in words that go after its name."""


@dataclass(frozen=True)
class SkippedArray:
    """Stands in the metadata for an array too long to be of interest to most; `gguf_arrays.py` reads it."""

    length: int
    kind: int = field(default=_STRING, compare=False)
    """GGUF type number of its elements."""
    offset: int = field(default=0, compare=False)
    """Where its elements begin in the file."""
    end: int = field(default=0, compare=False)


@dataclass(frozen=True)
class GGUFTensor:
    """Where one tensor's bytes are."""

    name: str
    shape: tuple[int, ...]
    """As torch has it, rows first (GGUF stores the reverse)."""
    type: int
    """ggml type number, gguf.GGMLQuantizationType."""
    offset: int
    """From the beginning of the file."""


@dataclass(frozen=True)
class GGUFFile:
    """A GGUF file's header."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GGUFTensor]

    @property
    def architecture(self) -> str:
        """`general.architecture`, the prefix of the model's own keys."""
        return str(self.metadata.get("general.architecture", ""))

    def get(self, key: str, default: Any = None) -> Any:
        """Value of one of the architecture's own keys: block_count stands for llama.block_count."""
        return self.metadata.get(f"{self.architecture}.{key}", default)


def read_gguf(path: str | Path) -> GGUFFile:
    """Read the header of a GGUF file (versions 2 and 3, little-endian).

    Raises:
        ConfigError: not a GGUF file, of another version, cut off, or not laid out as such files are; says what and where.

    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ConfigError(f"{path} is not a GGUF file")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Cursor(data).header(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    except (struct.error, OverflowError, IndexError):
        raise ConfigError(f"{path} is damaged or incomplete: it ends within its header") from None
    except _DamagedError as error:
        raise ConfigError(f"{path} is damaged or incomplete: {error}") from None


class _Cursor:
    """Walks the header, byte by byte."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 4
        self.kept = 0
        self.skipped = 0
        self.text = 0
        self.entry = "header"
        """What is being read, for errors."""

    def header(self, path: Path) -> GGUFFile:
        version = self.scalar("<I")
        if version not in (2, 3):
            raise ConfigError(f"{path} is GGUF version {version} or big-endian; versions 2 and 3, little-endian, can be read")
        num_tensors = self.within("number of tensors", self.scalar("<Q"), _MOST_ENTRIES)
        num_keys = self.within("number of keys", self.scalar("<Q"), _MOST_ENTRIES)
        metadata: dict[str, Any] = {}
        for _ in range(num_keys):
            self.add(metadata, self.string(_LONGEST_NAME), "key")
            metadata[self.entry] = self.value(self.scalar("<I"))
        table: dict[str, Any] = {}
        for _ in range(num_tensors):
            self.add(table, self.string(_LONGEST_NAME), "tensor")
            table[self.entry] = self.tensor()
        alignment = _alignment(metadata)
        start = -(-self.at // alignment) * alignment
        tensors = {name: GGUFTensor(name, t.shape, t.type, start + t.offset) for name, t in table.items()}
        _check_places(path, tensors, alignment, start, len(self.data))
        return GGUFFile(path, metadata, tensors)

    def add(self, entries: dict[str, Any], name: str, what: str) -> None:
        if name in entries:
            raise _DamagedError(f"the {what} {shown(name)} is there twice")
        self.entry = name

    def within(self, what: str, value: int, most: int) -> int:
        if value > most:
            raise _DamagedError(f"{shown(self.entry)}: {what} must be at most {most}, got {value}")
        return value

    def fits(self, what: str, length: int) -> None:
        if length > len(self.data) - self.at:
            raise _DamagedError(f"{shown(self.entry)}: {what} of {length} bytes runs past the end of the file")

    def scalar(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def string(self, longest: int = _LONGEST_STRING) -> str:
        length = self.scalar("<Q")
        self.fits("a string", length)
        self.within("length of a string", length, longest)
        self.text = self.within("text in all", self.text + length, _MOST_TEXT)
        self.at += length
        try:
            return self.data[self.at - length : self.at].decode()
        except UnicodeDecodeError as error:
            raise _DamagedError(f"{shown(self.entry)}: a string is not UTF-8: {error.reason}") from None

    def value(self, kind: int) -> Any:
        self.kept = self.within("number of values in all", self.kept + 1, _MOST_KEPT)
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self.array(self.scalar("<I"), self.scalar("<Q"))
        return self.scalar(self.form(kind))

    def form(self, kind: int) -> str:
        form = _SCALARS.get(kind)
        if form is None:
            raise _DamagedError(f"{shown(self.entry)}: a value of type {kind}; types are 0 to {max(_SCALARS)}")
        return form

    def array(self, kind: int, length: int) -> Any:
        if kind == _ARRAY:
            raise _DamagedError(f"{shown(self.entry)}: arrays of arrays are not allowed")
        if length <= _LONGEST_ARRAY:
            return [self.value(kind) for _ in range(length)]
        offset = self.at
        if kind == _STRING:
            self.skip_strings(length)
        else:
            size = length * struct.calcsize(self.form(kind))
            self.fits("an array", size)
            self.at += size
        return SkippedArray(length, kind, offset, self.at)

    def skip_strings(self, count: int) -> None:
        self.fits("an array of strings", 8 * count)
        self.skipped = self.within("strings in arrays in all", self.skipped + count, _MOST_SKIPPED)
        # The one hot loop: hundreds of thousands of vocabulary entries. Past the end, unpacking fails.
        unpack, data, at = struct.Struct("<Q").unpack_from, self.data, self.at
        for _ in range(count):
            at += 8 + unpack(data, at)[0]
        self.at = at
        self.fits("an array of strings", 0)

    def tensor(self) -> GGUFTensor:
        dimensions = self.scalar("<I")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise _DamagedError(
                f"tensor {shown(self.entry)}: it must have 1 to {_MOST_DIMENSIONS} dimensions, got {dimensions}"
            )
        shape = tuple(self.scalar("<Q") for _ in range(dimensions))[::-1]
        if 0 in shape or math.prod(shape) >= 1 << 62:
            raise _DamagedError(f"tensor {shown(self.entry)}: dimensions must be from 1 on, got {list(shape)}")
        return GGUFTensor(self.entry, shape, self.scalar("<I"), self.scalar("<Q"))


def _alignment(metadata: dict[str, Any]) -> int:
    value = metadata.get("general.alignment", 32)
    if type(value) is not int or not 1 <= value <= _LARGEST_ALIGNMENT or value & (value - 1):
        raise _DamagedError(f"general.alignment must be a power of two up to {_LARGEST_ALIGNMENT}, got {shown(value)}")
    return value


def _check_places(path: Path, tensors: dict[str, GGUFTensor], alignment: int, start: int, end: int) -> None:
    """Every tensor whole, of a type there is, aligned, within the file and apart from the others."""
    taken = start
    for tensor in sorted(tensors.values(), key=lambda tensor: tensor.offset):
        name = shown(tensor.name)
        if (tensor.offset - start) % alignment:
            raise _DamagedError(f"tensor {name} begins at {tensor.offset - start}, not a multiple of {alignment}")
        if tensor.offset < taken:
            raise _DamagedError(f"tensor {name} begins at {tensor.offset - start}, within the one before")
        taken = tensor.offset + _size(path, tensor)
        if taken > end:
            raise ConfigError(f"{path} is incomplete: it ends before {tensor.name}")


def _size(path: Path, tensor: GGUFTensor) -> int:
    block = BLOCKS.get(tensor.type)
    if block is None:
        raise ConfigError(f"{path}: {tensor.name} is of unknown ggml type {tensor.type}; known are {_KNOWN_TYPES}")
    _, values, size = block
    if tensor.shape[-1] % values:
        raise ConfigError(f"{path}: {tensor.name} has rows of {tensor.shape[-1]}, not a multiple of {values}")
    return math.prod(tensor.shape) // values * size
