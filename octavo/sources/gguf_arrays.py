"""The long arrays of a GGUF header (vocabulary, scores, merges), read when somebody wants them."""

from __future__ import annotations

import mmap
import struct
from array import array
from collections.abc import Iterable
from typing import Any

from octavo.errors import ConfigError
from octavo.sources.gguf_file import GGUFFile, SkippedArray

_TYPE_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}
"""GGUF type number -> type code of `array`."""
_STRING = 8
_LENGTH = struct.Struct("<Q")


def read_strings(file: GGUFFile, key: str) -> list[str]:
    """An array of strings; [] where the file has none of that name.

    Raises:
        ConfigError: the key holds something else, text that is no UTF-8, or runs past the end of the file.
    """
    value = file.metadata.get(key, [])
    if isinstance(value, SkippedArray) and value.kind == _STRING:
        with file.path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _strings(data, value)
            except (UnicodeDecodeError, struct.error) as error:
                raise ConfigError(f"{file.path}: {key} is damaged: {error}") from error
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise ConfigError(f"{file.path}: {key} should be an array of strings")


def read_numbers(file: GGUFFile, key: str) -> list[Any]:
    """An array of integers or of floating-point numbers; [] where the file has none of that name.

    Raises:
        ConfigError: the key holds something else, or runs past the end of the file.
    """
    value = file.metadata.get(key, [])
    if isinstance(value, SkippedArray) and value.kind in _TYPE_CODES:
        if value.end > file.path.stat().st_size:
            raise ConfigError(f"{file.path} is incomplete: {key} runs past its end")
        numbers = array(_TYPE_CODES[value.kind])
        with file.path.open("rb") as opened:
            opened.seek(value.offset)
            numbers.fromfile(opened, value.length)
        return numbers.tolist()
    if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
        return value
    raise ConfigError(f"{file.path}: {key} should be an array of numbers")


def find_strings(file: GGUFFile, key: str, wanted: Iterable[str]) -> dict[str, int]:
    """Where some strings stand in an array of strings, without making objects of all the others."""
    value = file.metadata.get(key, [])
    if not isinstance(value, SkippedArray) or value.kind != _STRING:
        return {text: value.index(text) for text in wanted if isinstance(value, list) and text in value}
    with file.path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _find(data, value, wanted)


def _strings(data: mmap.mmap, where: SkippedArray) -> list[str]:
    unpack, at, found = _LENGTH.unpack_from, where.offset, []
    for _ in range(where.length):
        start = at + 8
        at = start + unpack(data, at)[0]
        found.append(data[start:at].decode())
    return found


def _find(data: mmap.mmap, where: SkippedArray, wanted: Iterable[str]) -> dict[str, int]:
    # A string as it lies in the file, length and all: a search in C says where it may be, the walk counts the entries.
    places = {}
    for text in wanted:
        encoded = text.encode()
        at = data.find(_LENGTH.pack(len(encoded)) + encoded, where.offset, where.end)
        if at >= 0:
            places[at] = text
    found: dict[str, int] = {}
    unpack, at = _LENGTH.unpack_from, where.offset
    last = max(places, default=-1)
    for index in range(where.length):
        if at > last:
            break
        if at in places:
            found[places[at]] = index
        at += 8 + unpack(data, at)[0]
    return found
