"""Calls with a tag for each parameter: `<function=f><parameter=k>value</parameter></function>`."""

from __future__ import annotations

from octavo.frontend.output_parsers.json_text import json_text
from octavo.frontend.output_parsers.parameter_types import ParameterTypes, coerced
from octavo.frontend.output_parsers.parser import MarkedCall, Parsing
from octavo.frontend.output_parsers.text_reader import Markers, Steps

_VALUE_END = Markers("\n</parameter>", "</parameter>")


def parameter_tag_call(types: ParameterTypes) -> MarkedCall:
    """What follows `<tool_call>`, or `<function=` without it: strings go out as they come, other values once complete."""

    def read(parsing: Parsing) -> Steps[None]:
        if not parsing.last_read_is("<function="):
            yield from parsing.space()
            yield from parsing.expect("<function=")
        name = yield from _tag_name(parsing)
        parsing.start(name)
        yield from _parameters(parsing, types.get(name, {}))
        parsing.end_call()
        yield from parsing.space()
        if (yield from parsing.literal("</tool_call>")):
            parsing.forget()

    return read


def _parameters(parsing: Parsing, types: dict[str, frozenset[str]]) -> Steps[None]:
    before = "{"
    yield from parsing.space()
    while (yield from parsing.literal("<parameter=")):
        key = yield from _tag_name(parsing)
        yield from parsing.literal("\n")
        start = f"{before}{json_text(key)}: "
        before = ", "
        allowed = types.get(key, frozenset())
        if allowed <= {"string"}:
            yield from _string(parsing, start)
        else:
            yield from _typed(parsing, start, allowed)
        yield from parsing.space()
    yield from parsing.expect("</function>")
    parsing.arguments("{}" if before == "{" else "}")


def _string(parsing: Parsing, start: str) -> Steps[None]:
    parsing.arguments(start + '"')
    # A closing tag that is cut off is no part of the value.
    yield from parsing.until(_VALUE_END, lambda text: parsing.arguments(_escaped(text)), whole=False)
    yield from _value_end(parsing)
    parsing.arguments('"')


def _escaped(text: str) -> str:
    return json_text(text)[1:-1]


def _typed(parsing: Parsing, start: str, allowed: frozenset[str]) -> Steps[None]:
    pieces: list[str] = []
    yield from parsing.until(_VALUE_END, pieces.append)
    yield from _value_end(parsing)
    parsing.arguments(start + coerced("".join(pieces), allowed))


def _value_end(parsing: Parsing) -> Steps[None]:
    yield from parsing.literal("\n")
    yield from parsing.expect("</parameter>")


def _tag_name(parsing: Parsing) -> Steps[str]:
    name = yield from parsing.take_while(lambda character: character.isprintable() and character not in "<>")
    yield from parsing.expect(">")
    return name
