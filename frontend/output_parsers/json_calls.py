"""Formats that write a call as a JSON object with its name and arguments."""

from __future__ import annotations

import json

from octavo.frontend.output_parsers.parser import Parsing, listed, separated
from octavo.frontend.output_parsers.text_reader import MalformedTextError, Steps

_ARGUMENTS = ("arguments", "parameters")
_IGNORED = ("id", "type")
"""Keys some models add; their values are strings that say nothing."""


def call_object(parsing: Parsing) -> Steps[None]:
    """`{"name": "f", "arguments": {..}}`, in either order, or with "parameters"."""
    name = held = None
    complete = False
    yield from parsing.expect("{")
    while True:
        key = yield from _key(parsing)
        if key == "name" and name is None:
            name = yield from _name(parsing)
        elif key in _ARGUMENTS and not complete and held is None:
            if name is None:
                held = yield from _object_text(parsing)
            else:
                yield from stream_call(parsing, name)
                complete = True
        elif key in _IGNORED:
            yield from _string(parsing)
        else:
            raise MalformedTextError
        yield from parsing.space()
        if not (yield from parsing.literal(",")):
            break
    yield from parsing.expect("}")
    if name is not None and held is not None:
        _whole_call(parsing, name, held)
    elif not complete:
        raise MalformedTextError
    parsing.forget()


def call_array(parsing: Parsing) -> Steps[None]:
    """`[{..}, {..}]` of call objects."""
    yield from parsing.space()
    yield from listed(parsing, call_object)


def separated_calls(parsing: Parsing) -> Steps[None]:
    """Call objects with `;` between them."""
    yield from separated(parsing, call_object, ";")


def mistral_calls(parsing: Parsing) -> Steps[None]:
    """An array of call objects, or a bare name followed by its arguments."""
    yield from parsing.space()
    if (yield from parsing.peek()) == "[":
        yield from call_array(parsing)
        return
    name = yield from parsing.take_while(is_name_character)
    yield from parsing.literal("[ARGS]")
    yield from parsing.space()
    yield from stream_call(parsing, name)


def is_name_character(character: str) -> bool:
    """Letters, digits and what joins them in a function's name."""
    return character.isalnum() or character in "_-."


def stream_call(parsing: Parsing, name: str) -> Steps[None]:
    """The arguments of a call whose name is known, as they come."""
    if (yield from parsing.peek()) != "{":
        raise MalformedTextError
    parsing.start(name)
    yield from parsing.json(parsing.arguments)
    parsing.end_call()


def _whole_call(parsing: Parsing, name: str, arguments: str) -> None:
    parsing.start(name)
    parsing.arguments(arguments)
    parsing.end_call()


def _key(parsing: Parsing) -> Steps[str]:
    yield from parsing.space()
    key = yield from _string(parsing)
    yield from parsing.space()
    yield from parsing.expect(":")
    yield from parsing.space()
    return key


def _name(parsing: Parsing) -> Steps[str]:
    name = yield from _string(parsing)
    if not name or not name.isprintable():
        raise MalformedTextError
    return name


def _string(parsing: Parsing) -> Steps[str]:
    if (yield from parsing.peek()) != '"':
        raise MalformedTextError
    pieces: list[str] = []
    yield from parsing.json(pieces.append)
    try:
        return json.loads("".join(pieces), strict=False)
    except ValueError as error:
        raise MalformedTextError from error


def _object_text(parsing: Parsing) -> Steps[str]:
    if (yield from parsing.peek()) != "{":
        raise MalformedTextError
    pieces: list[str] = []
    yield from parsing.json(pieces.append)
    return "".join(pieces)
