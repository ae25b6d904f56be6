"""Calls written as a Python list of calls: `[f(a=1, b='x'), g()]`."""

from __future__ import annotations

import ast
from typing import Any

from octavo.frontend.output_parsers.json_calls import is_name_character
from octavo.frontend.output_parsers.json_text import json_text
from octavo.frontend.output_parsers.parser import Parsing, listed
from octavo.frontend.output_parsers.text_reader import MalformedTextError, Steps

_WORDS = {"null": None, "true": True, "false": False}
_ESCAPES = frozenset("\\'\"abfnrtvxNuU01234567\n")
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def pythonic_calls(parsing: Parsing) -> Steps[None]:
    """A list of calls with keyword arguments; each argument goes out once its value is complete."""
    yield from listed(parsing, _call)


def _call(parsing: Parsing) -> Steps[None]:
    name = yield from parsing.take_while(is_name_character)
    yield from parsing.expect("(")
    yield from parsing.space()
    if (yield from parsing.literal(")")):
        parsing.start(name)
        parsing.arguments("{}")
    else:
        yield from _arguments(parsing, name)
    parsing.end_call()


def _arguments(parsing: Parsing, name: str) -> Steps[None]:
    before = "{"
    while True:
        fragment = yield from _argument(parsing)
        if before == "{":
            parsing.start(name)
        parsing.arguments(before + fragment)
        before = ", "
        more = yield from parsing.literal(",")
        yield from parsing.space()
        if not more or (yield from parsing.peek()) == ")":
            break
    yield from parsing.expect(")")
    parsing.arguments("}")


def _argument(parsing: Parsing) -> Steps[str]:
    key = yield from parsing.take_while(is_name_character)
    yield from parsing.space()
    yield from parsing.expect("=")
    literal = yield from _literal(parsing)
    return f"{json_text(key)}: {_as_json(literal)}"


def _literal(parsing: Parsing) -> Steps[str]:
    """The text of a value, up to the comma or bracket that ends it."""
    taken: list[str] = []
    closing: list[str] = []
    while character := (yield from parsing.peek()):
        if not closing and character in ",)":
            return "".join(taken).strip()
        if character in "'\"":
            taken.append((yield from _string(parsing, character)))
            continue
        if character in _CLOSING:
            closing.append(_CLOSING[character])
        elif character in ")]}" and (not closing or closing.pop() != character):
            break
        taken.append((yield from parsing.take_one()))
    raise MalformedTextError


def _string(parsing: Parsing, quote: str) -> Steps[str]:
    """A quoted string, its line breaks as escapes: models write them raw."""
    taken = [(yield from parsing.take_one())]
    while character := (yield from parsing.take_one()):
        if character == "\\":
            escaped = yield from parsing.take_one()
            # Python keeps the backslash of an unknown escape too, but with a warning.
            character += escaped if escaped in _ESCAPES else "\\" + escaped
        taken.append("\\n" if character == "\n" else "\\r" if character == "\r" else character)
        if character == quote:
            return "".join(taken)
    raise MalformedTextError


def _as_json(literal: str) -> str:
    try:
        return json_text(_value(ast.parse(literal, mode="eval").body))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise MalformedTextError from error


def _value(node: ast.expr) -> Any:
    """A Python or JSON literal; raises ValueError or TypeError for any other expression."""
    match node:
        case ast.List(elts) | ast.Tuple(elts):
            return [_value(element) for element in elts]
        case ast.Dict(keys, values):
            return {_key(key): _value(value) for key, value in zip(keys, values, strict=True)}
        case ast.Name(word) if word in _WORDS:
            return _WORDS[word]
        case _:
            return ast.literal_eval(node)


def _key(node: ast.expr | None) -> str | int | float | None:
    if node is None:
        raise ValueError("** within a dictionary")
    return _value(node)
