"""Types of parameters by their schemas, and values written as bare text."""

from __future__ import annotations

from typing import Any

import pytest

from octavo.frontend.output_parsers.parameter_types import coerced, parameter_types


def types_of(schema: Any, **more: Any) -> frozenset[str]:
    parameters = {"properties": {"k": schema}, **more}
    return parameter_types([{"type": "function", "function": {"name": "f", "parameters": parameters}}])["f"]["k"]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "integer"}, {"integer"}),
        ({"type": ["string", "null"]}, {"string", "null"}),
        ({"anyOf": [{"type": "number"}, {"oneOf": [{"type": "null"}]}]}, {"number", "null"}),
        ({"$ref": "#/$defs/Point"}, {"object"}),
        ({"$ref": "#/$defs/Circle"}, set()),
        ({"$ref": "#/$defs/Missing/deeper"}, set()),
        ({"type": 5, "anyOf": None}, set()),
        (True, set()),
    ],
)
def test_types_of_schemas(schema: Any, expected: set[str]) -> None:
    defs = {"Point": {"type": "object"}, "Circle": {"$ref": "#/$defs/Circle"}}
    assert types_of(schema, **{"$defs": defs}) == expected


@pytest.mark.parametrize("parameters", [None, {}, {"properties": None}, True])
def test_tools_without_parameters(parameters: Any) -> None:
    assert parameter_types([{"type": "function", "function": {"name": "f", "parameters": parameters}}]) == {"f": {}}


@pytest.mark.parametrize(
    ("text", "allowed", "expected"),
    [
        ("7", {"integer"}, "7"),
        ("7.5", {"integer"}, '"7.5"'),
        ("7", {"number"}, "7"),
        ("True", {"boolean"}, "true"),
        ("1", {"boolean"}, '"1"'),
        ("true", {"integer"}, '"true"'),
        ("None", {"string", "null"}, "null"),
        ("null", {"integer"}, '"null"'),
        (" [1, 2] ", {"array"}, "[1, 2]"),
        ("[" * 100_000, {"array"}, '"' + "[" * 100_000 + '"'),
        ("NaN", {"number"}, '"NaN"'),
        ("1e999", {"number"}, '"1e999"'),
        ("12", {"string", "integer"}, "12"),
        ("é\n", {"object"}, '"é\\n"'),
    ],
)
def test_values(text: str, allowed: set[str], expected: str) -> None:
    assert coerced(text, frozenset(allowed)) == expected
