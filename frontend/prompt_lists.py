"""Lists of prompts and what goes with each, as scripts give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from octavo.errors import ValidationError


def as_prompts(prompts: Any) -> list[Any]:
    """A list of prompts, also from a single one; a flat list of ids is one prompt."""
    if isinstance(prompts, str | Mapping) or not isinstance(prompts, Sequence):
        return [prompts]
    if prompts and all(isinstance(item, int) for item in prompts):
        return [prompts]
    return list(prompts)


def one_each(name: str, value: Any, number: int) -> list[Any]:
    """A value for each of so many prompts, from one for all or a list. Raises: ValidationError: the list has another length."""
    if not isinstance(value, Sequence):
        return [value] * number
    if len(value) != number:
        message = f"{name} has {len(value)} entries for {number} prompts; give one for each, or one for all."
        raise ValidationError(message, parameter=name, value=len(value))
    return list(value)
