"""`input_type`: what texts are for, and the prompt that the model wants before such texts."""

from __future__ import annotations

from collections.abc import Mapping

from octavo.errors import ValidationError

_COHERES: dict[str, tuple[str, ...]] = {
    "search_query": ("query",),
    "search_document": ("document", "passage"),
    "classification": (),
    "clustering": (),
    "image": (),
}
"""Cohere's purposes, and what models call them besides."""


def prompt_for(input_type: str | None, prompts: Mapping[str, str]) -> str:
    """What goes before each text.

    Args:
        input_type: one of the model's purposes, or of Cohere's; None = none.
        prompts: the model's, by purpose.

    Raises:
        ValidationError: it is neither.
    """
    if input_type is None:
        return ""
    names = (input_type, *_COHERES.get(input_type, ()))
    for name in names:
        if name in prompts:
            return prompts[name]
    if input_type not in _COHERES:
        known = ", ".join(dict.fromkeys((*prompts, *_COHERES)))
        message = f"input_type must be one of {known}, got {input_type[:100]!r}."
        raise ValidationError(message, parameter="input_type", value=input_type)
    return ""
