"""What an output must be: `StructuredOutputsParams`, and `GuidedDecodingParams` as older programs spell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from octavo.errors import ValidationError

KINDS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
_NOT_HONOURED = ("structural_tag", "disable_additional_properties")


@dataclass
class StructuredOutputsParams:
    """One kind of constraint, and how JSON is written under it.

    Attributes:
        json: a JSON schema: text, dict, or a pydantic model's class.
        regex: a regular expression that the whole output matches; Rust's syntax, without look-around.
        choice: the output is one of these strings.
        grammar: Lark, or GBNF where a line has `::=`; the first rule is `start`, or `root`.
        json_object: the output is any JSON object.
        whitespace_pattern: regular expression of what may stand between JSON's tokens.

    Raises:
        ValidationError: no kind, or more than one; or a field that cannot be honoured.
    """

    json: str | dict[str, Any] | bool | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    disable_any_whitespace: bool = False
    disable_additional_properties: bool = False
    whitespace_pattern: str | None = None
    structural_tag: str | None = None

    def __post_init__(self) -> None:
        for name in _NOT_HONOURED:
            if getattr(self, name):
                raise unfit(name, "is not supported")
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise unfit("", f"must have exactly one of {', '.join(KINDS)}, got {' and '.join(given) or 'none'}")
        as_schema = getattr(self.json, "model_json_schema", None)
        if callable(as_schema):
            self.json = as_schema()
        self._check_types()

    @property
    def kind(self) -> str:
        return next(name for name in KINDS if getattr(self, name) is not None)

    def _check_types(self) -> None:
        if not isinstance(self.json, str | dict | bool | None):
            raise unfit("json", "must be a schema as text or dict, or a pydantic model's class")
        for name in ("regex", "grammar", "whitespace_pattern"):
            if not isinstance(getattr(self, name), str | None):
                raise unfit(name, "must be a string")
        if self.json_object is not None and self.json_object is not True:
            raise unfit("json_object", "must be true, or be left out")
        if not isinstance(self.disable_any_whitespace, bool):
            raise unfit("disable_any_whitespace", "must be true or false")
        if isinstance(self.grammar, str) and not self.grammar.strip():
            raise unfit("grammar", "must not be blank")
        choice = self.choice
        if choice is not None and not (isinstance(choice, list) and choice and all(isinstance(one, str) for one in choice)):
            raise unfit("choice", "must be a list of at least one string")


@dataclass
class GuidedDecodingParams:
    """The older form: what is empty constrains nothing."""

    json: Any = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    backend: str | None = None
    whitespace_pattern: str | None = None

    @classmethod
    def from_optional(cls, **fields: Any) -> GuidedDecodingParams | None:
        """None where nothing is given."""
        return cls(**fields) if any(value is not None for value in fields.values()) else None

    def resolved(self) -> StructuredOutputsParams | None:
        """The newer form, None where nothing constrains.

        Raises:
            ValidationError: more than one kind.
        """
        kinds = {name: getattr(self, name) or None for name in ("json", "regex", "choice", "grammar", "json_object")}
        given = {name: value for name, value in kinds.items() if value is not None}
        return StructuredOutputsParams(**given, whitespace_pattern=self.whitespace_pattern) if given else None


def resolved(structured: Any, guided: Any) -> StructuredOutputsParams | None:
    """What a request's two fields say together.

    Raises:
        ValidationError: both are set, or one is of another type.
    """
    if structured is not None and guided is not None:
        raise unfit("", "and guided_decoding cannot both be set")
    if isinstance(structured, dict):
        structured = from_fields(structured)
    if not isinstance(structured, StructuredOutputsParams | None):
        raise unfit("", "must be StructuredOutputsParams")
    if not isinstance(guided, GuidedDecodingParams | None):
        raise ValidationError("guided_decoding must be GuidedDecodingParams.", parameter="guided_decoding")
    return structured if guided is None else guided.resolved()


def from_fields(fields: dict[str, Any]) -> StructuredOutputsParams:
    """From a dict of its fields.

    Raises:
        ValidationError: an unknown one, or what the class refuses.
    """
    unknown = fields.keys() - StructuredOutputsParams.__dataclass_fields__.keys()
    if unknown:
        known = ", ".join(StructuredOutputsParams.__dataclass_fields__)
        raise unfit("", f"has fields {known}; got {', '.join(sorted(map(str, unknown)))[:200]}")
    return StructuredOutputsParams(**{name: value for name, value in fields.items() if value is not None})


def unfit(name: str, rule: str) -> ValidationError:
    """The error that says what is wrong with a field of the parameters, or with all of them where the name is empty."""
    where = f"structured_outputs.{name}" if name else "structured_outputs"
    return ValidationError(f"{where} {rule}.", parameter="structured_outputs")
