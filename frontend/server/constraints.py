"""What a body says that its answer must be: every spelling that clients have for it."""

from __future__ import annotations

from typing import Any

from octavo.errors import ValidationError
from octavo.frontend.server.fields import GenerationFields
from octavo.structured_outputs import GuidedDecodingParams, StructuredOutputsParams, from_fields


def constraint(body: GenerationFields) -> StructuredOutputsParams | None:
    """The constraint, from whichever field has one.

    Raises:
        ValidationError: two fields have one, or one cannot be understood.
    """
    found = {
        "response_format": _response_format(body.response_format),
        "structured_outputs": None if body.structured_outputs is None else from_fields(body.structured_outputs),
        "guided_*": _guided(body),
    }
    given = {name: wanted for name, wanted in found.items() if wanted is not None}
    if len(given) > 1:
        raise ValidationError(f"Only one of {' and '.join(given)} may be given.", parameter=next(iter(given)))
    return next(iter(given.values()), None)


def _guided(body: GenerationFields) -> StructuredOutputsParams | None:
    return GuidedDecodingParams(
        json=body.guided_json,
        regex=body.guided_regex,
        choice=body.guided_choice,
        grammar=body.guided_grammar,
        whitespace_pattern=body.guided_whitespace_pattern,
    ).resolved()


def _response_format(given: dict[str, Any] | None) -> StructuredOutputsParams | None:
    if given is None or given.get("type") == "text":
        return None
    if given.get("type") == "json_object":
        return StructuredOutputsParams(json_object=True)
    if given.get("type") != "json_schema":
        allowed = "text, json_object or json_schema"
        raise _bad(f"response_format.type must be {allowed}, got {given.get('type')!r:.80}", given)
    described = given.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    if not isinstance(schema, dict | bool):
        raise _bad("response_format.json_schema.schema must be a JSON schema", given)
    return StructuredOutputsParams(json=schema)


def _bad(message: str, given: dict[str, Any]) -> ValidationError:
    return ValidationError(f"{message}.", parameter="response_format", value=given)
