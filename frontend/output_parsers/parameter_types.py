"""Types of tools' parameters by their schemas, for formats that write every value as bare text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from octavo.frontend.output_parsers.json_text import json_text

Tools = Sequence[Mapping[str, Any]]
"""A request's tools as OpenAI writes them: {"type": "function", "function": {"name", "parameters"}}."""

ParameterTypes = dict[str, dict[str, frozenset[str]]]
"""JSON schema types by a tool's name and a parameter's; empty = the schema does not say."""

_WORDS = {"true": True, "false": False, "null": None, "none": None}
"""Models write Python's words too."""

_DEEPEST = 8
"""References and alternatives within one another that are followed."""

_TYPES: dict[str, type | tuple[type, ...]] = {
    "array": list,
    "boolean": bool,
    "integer": int,
    "null": type(None),
    "number": (int, float),
    "object": dict,
}


def parameter_types(tools: Tools) -> ParameterTypes:
    """The types each parameter may have."""
    types: ParameterTypes = {}
    for tool in tools:
        function = tool["function"]
        types[function["name"]] = _types_of_parameters(function.get("parameters"))
    return types


def coerced(text: str, allowed: frozenset[str]) -> str:
    """JSON text of a value: of a type that it may be, else a string."""
    try:
        value = _read(text.strip())
        fits = any(_is(value, kind) for kind in allowed)
        return json_text(value if fits else text)
    except (ValueError, RecursionError):
        return json_text(text)


def _read(word: str) -> Any:
    return _WORDS[word.lower()] if word.lower() in _WORDS else json.loads(word)


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return kind in _TYPES and isinstance(value, _TYPES[kind])


def _types_of_parameters(schema: Any) -> dict[str, frozenset[str]]:
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(properties, Mapping):
        return {}
    return {key: frozenset(_schema_types(value, schema, _DEEPEST)) for key, value in properties.items()}


def _schema_types(schema: Any, root: Mapping[str, Any], depth: int) -> Iterator[str]:
    """Types named by a schema, its alternatives and what it refers to; references may go in circles."""
    if not isinstance(schema, Mapping) or not depth:
        return
    kinds = schema.get("type")
    yield from (kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(kind, str))
    parts = [part for word in ("anyOf", "oneOf", "allOf") for part in _listed(schema, word)]
    for part in [*parts, _referred(schema.get("$ref"), root)]:
        yield from _schema_types(part, root, depth - 1)


def _listed(schema: Mapping[str, Any], word: str) -> list[Any]:
    parts = schema.get(word)
    return parts if isinstance(parts, list) else []


def _referred(reference: Any, root: Mapping[str, Any]) -> Any:
    """The schema at `#/$defs/Name`; None if there is none."""
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    place: Any = root
    for step in reference[2:].split("/"):
        place = place.get(step) if isinstance(place, Mapping) else None
    return place
