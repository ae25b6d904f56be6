"""From what an output must be to a grammar, or to an error that says what cannot be enforced."""

from __future__ import annotations

import json
import re
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from octavo.errors import ValidationError
from octavo.frontend.grammars import MAX_DEPTH, grammar_of
from octavo.structured_outputs import GuidedDecodingParams, StructuredOutputsParams, resolved


@pytest.mark.parametrize(
    "fields",
    [
        {"json": {"type": "object", "properties": {"a": {"type": "integer"}}}},
        {"json": '{"type": "string", "maxLength": 10}'},
        {"json": {}},
        {"json": True},
        {"json": "true"},
        {"json": {"type": "array"}, "disable_any_whitespace": True},
        {"json": {"type": "array"}, "whitespace_pattern": " ?"},
        {"json_object": True},
        {"regex": ""},
        {"regex": "(?i)abc|[0-9]{3}"},
        {"choice": ["a", 'b"\\\n', "\u00e9"]},
        {"grammar": 'start: "a"'},
        {"grammar": 'root ::= "a"'},
    ],
    ids=str,
)
def test_what_can_be_enforced_is_a_grammar(fields: dict[str, Any]) -> None:
    assert grammar_of(StructuredOutputsParams(**fields))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"json": {"uniqueItems": True, "type": "array"}}, "uniqueItems"),
        ({"json": {"properties": {"a": {"not": {}}}}}, "not"),
        ({"json": {"if": {}, "then": {}}}, "if"),
        ({"json": {"dependentRequired": {"a": ["b"]}}}, "dependentRequired"),
        ({"json": {"oneOf": [{"type": "integer"}, {"type": "number"}]}}, "oneOf"),
        ({"json": {"x-guidance": {"lenient": True}, "type": "array", "contains": {}}}, "contains"),
        ({"json": False}, "must be a schema"),
        ({"json": "false"}, "must be a schema"),
        ({"json": "[1]"}, "must be a schema"),
        ({"json": "{"}, "no JSON"),
        ({"json": "[" * 100_000}, "no JSON"),
        ({"json": {"enum": ["x" * 1_000_001]}}, "1000000 characters"),
        ({"json": {}, "whitespace_pattern": "a" * 1_000_001}, "1000000 characters"),
        ({"regex": "a(?!b)"}, "look-ahead"),
        ({"regex": "("}, "regex"),
        ({"grammar": "start: missing"}, "missing"),
        ({"grammar": "root ::= 'a"}, "cannot be read"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_cannot_be_enforced_is_said(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(said)) as caught:
        grammar_of(StructuredOutputsParams(**fields))
    assert caught.value.parameter == "structured_outputs"
    assert len(str(caught.value)) < 500


def test_depth_is_limited() -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(MAX_DEPTH // 2):
        schema = {"properties": {"a": schema}}
    with pytest.raises(ValidationError, match=f"deeper than {MAX_DEPTH}"):
        grammar_of(StructuredOutputsParams(json=schema))


@given(text=st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text_is_a_grammar_or_an_error_of_the_callers(text: str) -> None:
    for kind in ("json", "regex", "grammar"):
        try:
            grammar_of(StructuredOutputsParams(**{kind: text}))
        except ValidationError as error:
            assert error.parameter == "structured_outputs"  # noqa: PT017 - either outcome is right


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["object", "string", "integer", "#", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "items", "enum", "anyOf", "$ref", "minLength", "pattern"]), inner
        )
    ),
    max_leaves=12,
)


@given(
    schema=st.dictionaries(
        st.sampled_from(["type", "properties", "items", "enum", "allOf", "$ref", "required", "$defs"]), _values
    )
)
@settings(max_examples=150, deadline=None)
def test_any_schema_is_a_grammar_or_an_error_of_the_callers(schema: dict[str, Any]) -> None:
    try:
        grammar_of(StructuredOutputsParams(json=json.dumps(schema)))
    except ValidationError as error:
        assert error.parameter == "structured_outputs"  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"regex": "a", "json": {}},
        {"json_object": False},
        {"choice": []},
        {"choice": [1]},
        {"choice": "a"},
        {"grammar": " "},
        {"json": 5},
        {"regex": 5},
        {"regex": "a", "disable_any_whitespace": 1},
        {"json": {}, "disable_additional_properties": True},
        {"structural_tag": "{}"},
    ],
    ids=str,
)
def test_fields_that_are_wrong(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="structured_outputs"):
        StructuredOutputsParams(**fields)


def test_older_form_becomes_the_newer_one() -> None:
    assert GuidedDecodingParams(json={}, regex="").resolved() is None
    assert GuidedDecodingParams(choice=["a"]).resolved() == StructuredOutputsParams(choice=["a"])
    assert GuidedDecodingParams.from_optional() is None
    assert resolved({"regex": "a"}, None) == StructuredOutputsParams(regex="a")
    with pytest.raises(ValidationError, match="cannot both"):
        resolved(StructuredOutputsParams(regex="a"), GuidedDecodingParams(regex="a"))
    with pytest.raises(ValidationError, match="exactly one"):
        GuidedDecodingParams(json={"type": "integer"}, regex="a").resolved()
