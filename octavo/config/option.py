"""How an option is said: once, as a dataclass field from which flags, keyword arguments, docs and checks are made."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from octavo.checked import LARGEST_LENGTH


def option(
    default: Any,
    help_text: str,
    *,
    choices: tuple[str, ...] = (),
    flag: str = "",
    low: float | None = None,
    high: float = LARGEST_LENGTH,
) -> Any:
    """A dataclass field with what the command line and the check need to know of an option.

    Args:
        default: None = unset.
        help_text: for --help and the docs.
        choices: the values allowed; () = all of the field's type.
        flag: another spelling of it.
        low, high: the numbers allowed, both included; low None = not checked here.
    """
    metadata = {"help": help_text, "choices": choices, "flag": flag, "low": low, "high": high}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def flag_name(field_name: str) -> str:
    """max_model_len -> --max-model-len"""
    return "--" + field_name.replace("_", "-")
