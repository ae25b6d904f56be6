"""Types of tools' parameters by their schemas, for formats that write every value as bare text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Tools = Sequence[Mapping[str, Any]]
"""A request's tools as OpenAI writes them: {"type": "function", "function": {"name", "parameters"}}."""

ParameterTypes = dict[str, dict[str, frozenset[str]]]
"""JSON schema types by a tool's name and a parameter's; empty = the schema does not say."""

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
        properties = (function.get("parameters") or {}).get("properties") or {}
        types[function["name"]] = {key: frozenset(_schema_types(schema)) for key, schema in properties.items()}
    return types


def coerced(text: str, allowed: frozenset[str]) -> str:
    """JSON text of a value: as the first type that it is and may be, else as a string."""
    word = text.strip()
    try:
        value = json.loads(word.lower() if word.lower() in ("true", "false", "null", "none") else word, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return json.dumps(text, ensure_ascii=False)
    if any(_is(value, kind) for kind in allowed):
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(text, ensure_ascii=False)


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return kind in _TYPES and isinstance(value, _TYPES[kind])


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _schema_types(schema: Any) -> Iterable[str]:
    if not isinstance(schema, Mapping):
        return
    kind = schema.get("type")
    yield from [kind] if isinstance(kind, str) else kind or []
    for choice in [*schema.get("anyOf", []), *schema.get("oneOf", [])]:
        yield from _schema_types(choice)
