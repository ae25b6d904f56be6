"""Text that comes from outside, from standard input or the command line: UTF-8, or an error of one line."""

from __future__ import annotations

import sys

from octavo.errors import ConfigError


def checked(text: str, where: str) -> str:
    """The text; Python carries bytes that were not UTF-8 along in it as surrogates.

    Raises:
        ConfigError: it has such bytes.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{where} is not UTF-8 text (character {error.start + 1})") from None
    return text


def read_stdin() -> str:
    """All of standard input.

    Raises:
        ConfigError: it is not UTF-8.
    """
    try:
        return checked(sys.stdin.read(), "standard input")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ConfigError(f"standard input is not UTF-8 text (byte 0x{byte:02x} at offset {error.start})") from None


def write_all() -> None:
    """Let standard output show a question mark for what the terminal's encoding does not have."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
