"""Values that come from files and flags, taken only as what they should be: an error names where, which key, and what is allowed."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from octavo.errors import ConfigError

_MISSING: Any = object()
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 60
_SHOWN.maxlevel = 2

LARGEST_LENGTH = (1 << 31) - 1
"""Of anything that is counted in tokens or positions."""


def shown(value: Any) -> str:
    """A value as an error shows it, shortened."""
    return _SHOWN.repr(value)


class Fields:
    """A mapping from a file, read key by key. A null counts as absent.

    Args:
        where: file (and place in it) that errors name.
        values: what is there.
        prefix: put before keys in errors.

    """

    def __init__(self, where: str, values: Mapping[str, Any], prefix: str = "") -> None:
        self.where = where
        self.values = values
        self.prefix = prefix

    def refuse(self, key: str, allowed: str) -> ConfigError:
        """The error for a value that is not `allowed`."""
        value = self.values.get(key)
        if value is None:
            return ConfigError(f"{self.where} lacks {self.prefix + key!r}, which must be {allowed}")
        return ConfigError(f"{self.where}: {self.prefix}{key} must be {allowed}, got {shown(value)}")

    def integer(self, key: str, low: int, high: int, default: Any = _MISSING) -> Any:
        """An integer in [low, high]; `default` where there is none.

        Raises:
            ConfigError: it is something else, or missing without a default.

        """
        value = self.values.get(key)
        if value is None and default is not _MISSING:
            return default
        if type(value) is not int or not low <= value <= high:
            raise self.refuse(key, f"an integer from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float, default: Any = _MISSING, *, above: bool = False) -> Any:
        """A finite number in [low, high], or in (low, high] with `above`. Raises: ConfigError, as `integer`."""
        value = self.values.get(key)
        if value is None and default is not _MISSING:
            return default
        if not is_number(value) or not low <= value <= high or (above and value == low):
            raise self.refuse(key, f"a number {'above' if above else 'from'} {low:g}{'' if above else f' to {high:g}'}")
        return value

    def flag(self, key: str, default: Any = _MISSING) -> Any:
        """True or false. Raises: ConfigError, as `integer`."""
        value = self.values.get(key)
        if value is None and default is not _MISSING:
            return default
        if not isinstance(value, bool):
            raise self.refuse(key, "true or false")
        return value

    def text(self, key: str, default: Any = _MISSING) -> Any:
        """A string. Raises: ConfigError, as `integer`."""
        value = self.values.get(key)
        if value is None and default is not _MISSING:
            return default
        if not isinstance(value, str):
            raise self.refuse(key, "a string")
        return value

    def mapping(self, key: str) -> Mapping[str, Any] | None:
        """An object, None where there is none. Raises: ConfigError: it is something else."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise self.refuse(key, "an object")
        return value

    def numbers(self, key: str, longest: int) -> Sequence[float]:
        """A list of positive finite numbers. Raises: ConfigError: it is something else, or missing."""
        value = self.values.get(key)
        if not isinstance(value, list) or not 0 < len(value) <= longest or not all(is_number(v) and v > 0 for v in value):
            raise self.refuse(key, f"a list of 1 to {longest} numbers above 0")
        return value


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether it is an integer or a finite float; truth values are neither."""
    return type(value) is int or (type(value) is float and math.isfinite(value))
