"""JSON from files that others wrote: bounded in size and depth, every key once, every number finite."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from octavo.checked import shown
from octavo.errors import ConfigError

LARGEST_CONFIG = 1 << 20
"""Bytes of a configuration file."""
DEEPEST = 64
"""Levels of objects and lists in each other."""
_INTEGER_DIGITS = 19


def read_object(path: Path, largest: int = LARGEST_CONFIG) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ConfigError: it cannot be read, is larger than `largest` bytes, or is not such an object; says why.

    """
    return parse_object(read_bytes(path, largest), str(path))


def read_bytes(path: Path, largest: int) -> bytes:
    """A file's bytes. Raises: ConfigError: it cannot be read or has more than `largest`."""
    try:
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) > largest:
        raise ConfigError(f"{path} is larger than {largest} bytes, the most that is read of such a file")
    return data


def parse_object(data: bytes, where: str) -> dict[str, Any]:
    """The object that `data` spells; integers of more than 64 bits come as floats.

    Raises:
        ConfigError: `data` is no such object; names `where`.

    """
    value = _parse(data, where)
    if not isinstance(value, dict):
        raise ConfigError(f"{where} should hold a JSON object")
    return value


def read_list(path: Path) -> list[Any]:
    """The list in a JSON file. Raises: ConfigError, as `read_object`."""
    value = _parse(read_bytes(path, LARGEST_CONFIG), str(path))
    if not isinstance(value, list):
        raise ConfigError(f"{path} should hold a JSON list")
    return value


def _parse(data: bytes, where: str) -> Any:
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_integer,
        )
    except RecursionError:
        raise ConfigError(f"{where} is nested deeper than {DEEPEST} levels") from None
    except ValueError as error:
        raise ConfigError(f"{where} is not valid JSON: {error}") from error
    if _is_deep(value):
        raise ConfigError(f"{where} is nested deeper than {DEEPEST} levels")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shown(twice)} is there twice")
    return value


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a number; numbers must be finite")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{shown(text)} is too large; numbers must be finite")
    return value


def _integer(text: str) -> int | float:
    """What does not fit 64 bits could not be sent to the core process either."""
    if len(text) < _INTEGER_DIGITS:
        return int(text)
    value = _finite(text)
    return int(text) if abs(value) < 2.0**63 else value


def _is_deep(value: Any) -> bool:
    """Whether anything lies deeper than allowed; level by level, so that no depth is too much for the check itself."""
    level = [value]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for part in level:
            inner += part.values() if isinstance(part, dict) else part
        level = [part for part in inner if isinstance(part, dict | list)]
        if not level:
            return False
    return True
