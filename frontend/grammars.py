"""From what an output must be to a grammar in llguidance's form, which names what it cannot enforce."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from octavo.frontend.tokenizer import Tokenizer
from octavo.structured_outputs import StructuredOutputsParams, unfit
from octavo.wire.messages import Vocabulary

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

MAX_CHARS = 1_000_000
MAX_DEPTH = 64
WHITESPACE = r"[ \n\r\t]{0,32}"
"""Between JSON's tokens: enough for indented text, and no model can go on with it for ever."""


def grammar_of(wanted: StructuredOutputsParams) -> str:
    """The grammar, which llguidance accepts.

    Raises:
        ValidationError: naming what it cannot enforce, and where.
    """
    from llguidance import LLMatcher

    grammar = _GRAMMARS[wanted.kind](wanted)
    fault = LLMatcher.validate_grammar(grammar, None)
    if fault:
        raise unfit(wanted.kind, f"cannot be enforced: {_shortened(fault)}")
    return grammar


def vocabulary_of(tokenizer: Tokenizer, eos_token_ids: Sequence[int], vocab_size: int) -> Vocabulary:
    """What tokens are.

    Raises:
        ValidationError: the model names no token that ends an output.
    """
    if not eos_token_ids:
        raise unfit("", "needs a model that names its end-of-sequence token")
    words = [tokenizer.token_bytes(token_id) for token_id in range(min(vocab_size, tokenizer.vocab_size))]
    return Vocabulary(words, sorted({*tokenizer.all_special_ids, *eos_token_ids}), eos_token_ids[0])


def _from_json(wanted: StructuredOutputsParams) -> str:
    from llguidance import LLMatcher

    schema = {"type": "object"} if wanted.json_object else _schema(wanted.json)
    _check_depth(schema)
    text = json.dumps(schema)
    _check_length("json", text)
    whitespace = wanted.whitespace_pattern or WHITESPACE
    _check_length("whitespace_pattern", whitespace)
    options: JsonCompileOptions = {"lenient": False, "coerce_one_of": False, "whitespace_pattern": whitespace}
    if wanted.disable_any_whitespace:
        options = {"lenient": False, "coerce_one_of": False, "whitespace_flexible": False}
    return LLMatcher.grammar_from_json_schema(text, overrides=options)


def _from_regex(wanted: StructuredOutputsParams) -> str:
    from llguidance import LLMatcher

    regex = wanted.regex or ""
    _check_length("regex", regex)
    return LLMatcher.grammar_from_regex(regex)


def _from_choice(wanted: StructuredOutputsParams) -> str:
    from llguidance import grammar_from

    choices = json.dumps(wanted.choice)
    _check_length("choice", choices)
    return str(grammar_from("choice", choices))


def _from_grammar(wanted: StructuredOutputsParams) -> str:
    from llguidance import grammar_from

    text = wanted.grammar or ""
    _check_length("grammar", text)
    try:
        return str(grammar_from("grammar", text))
    except ValueError as error:
        raise unfit("grammar", f"cannot be read: {_shortened(str(error))}") from None


_GRAMMARS = {
    "json": _from_json,
    "json_object": _from_json,
    "regex": _from_regex,
    "choice": _from_choice,
    "grammar": _from_grammar,
}


def _schema(given: str | dict[str, Any] | bool | None) -> dict[str, Any]:
    return _object(_parsed(given) if isinstance(given, str) else given)


def _parsed(given: str) -> Any:
    _check_length("json", given)
    try:
        return json.loads(given)
    except (ValueError, RecursionError) as error:
        raise unfit("json", f"is no JSON: {_shortened(str(error))}") from None


def _object(schema: Any) -> dict[str, Any]:
    if schema is True:
        return {}
    if not isinstance(schema, dict):
        raise unfit("json", "must be a schema: an object, or true")
    return schema


def _check_depth(schema: Any) -> None:
    level, depth = [schema], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise unfit("json", f"is nested deeper than {MAX_DEPTH} levels")
        nested = [value for value in level if isinstance(value, dict | list)]
        level = [inner for value in nested for inner in (value.values() if isinstance(value, dict) else value)]


def _check_length(name: str, text: str) -> None:
    if len(text) > MAX_CHARS:
        raise unfit(name, f"may have at most {MAX_CHARS} characters, got {len(text)}")


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else line[:297] + "..."
