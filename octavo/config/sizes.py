"""Lengths and bytes as people write them: 8k, 2G."""

from __future__ import annotations

import re

from octavo.checked import shown
from octavo.errors import ConfigError

_MOST_BYTES = 2**63 - 1


def parse_length(value: int | str | None) -> int | None:
    """8192, "8k" or "8K" -> 8192; None, "auto" and -1 -> None."""
    if value is None or value in ("auto", -1, "-1"):
        return None
    return _parse_scaled(value, "--max-model-len", 1024)


def parse_bytes(value: int | str | None, flag: str = "--kv-cache-memory-bytes") -> int | None:
    """1073741824 or "1G" -> 1073741824; errors name the flag."""
    return None if value is None else _parse_scaled(value, flag, 1024)


def _parse_scaled(value: int | str, flag: str, base: int) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmMgG]?)(?:i?[bB])?", str(value).strip())
    if match is None or float(match[1]) <= 0:
        raise ConfigError(f"{flag} must be a positive number, with k, M or G if you like, got {value!r}")
    scaled = float(match[1]) * base ** " kmg".index(match[2].lower() or " ")
    if scaled > _MOST_BYTES:
        raise ConfigError(f"{flag} must be at most {_MOST_BYTES}, got {shown(value)}")
    return int(scaled)
