"""A chat template that a user gives, as text or as a file."""

from __future__ import annotations

from pathlib import Path

from octavo.errors import ConfigError


def read_template(text_or_path: str) -> str:
    """A template's text; what has neither braces nor line breaks is a path.

    Raises:
        ConfigError: the file cannot be read.
    """
    if "{" in text_or_path or "\n" in text_or_path:
        return text_or_path
    try:
        return Path(text_or_path).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"--chat-template: cannot read {text_or_path!r}: {error}") from error
