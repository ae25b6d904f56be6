"""DeepSeek's calls: special tokens around each name, around its arguments, and around all calls."""

from __future__ import annotations

from octavo.frontend.output_parsers.json_calls import stream_call
from octavo.frontend.output_parsers.parser import MarkedCall, Parsing
from octavo.frontend.output_parsers.text_reader import MalformedTextError, Steps

CALLS_BEGIN = "<｜tool▁calls▁begin｜>"
_CALLS_END = "<｜tool▁calls▁end｜>"
_CALL_BEGIN = "<｜tool▁call▁begin｜>"
_CALL_END = "<｜tool▁call▁end｜>"
_SEPARATOR = "<｜tool▁sep｜>"


def deepseek_calls(fenced: bool) -> MarkedCall:
    """What follows the mark that begins all calls.

    Args:
        fenced: a call has its type before its name, and its arguments in a fenced block (V3); otherwise neither (V3.1).
    """
    one = _fenced_call if fenced else _bare_call

    def read(parsing: Parsing) -> Steps[None]:
        yield from parsing.space()
        yield from parsing.expect(_CALL_BEGIN)
        while True:
            yield from one(parsing)
            yield from parsing.space()
            yield from parsing.expect(_CALL_END)
            yield from parsing.space()
            if not (yield from parsing.literal(_CALL_BEGIN)):
                break
        if (yield from parsing.literal(_CALLS_END)):
            parsing.forget()

    return read


def _bare_call(parsing: Parsing) -> Steps[None]:
    name = yield from parsing.take_while(_is_name)
    yield from parsing.expect(_SEPARATOR)
    yield from parsing.space()
    yield from stream_call(parsing, name)


def _fenced_call(parsing: Parsing) -> Steps[None]:
    if (yield from parsing.take_while(_is_name)) != "function":
        raise MalformedTextError
    yield from parsing.expect(_SEPARATOR)
    name = yield from parsing.take_while(_is_name)
    for word in ("\n", "```json", "\n"):
        yield from parsing.expect(word)
    yield from stream_call(parsing, name)
    yield from parsing.space()
    yield from parsing.expect("```")


def _is_name(character: str) -> bool:
    return character.isprintable() and character != "<"
