"""What a parser finds, in order, and the whole answer that the same events add up to."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Content(msgspec.Struct, frozen=True):
    """Text for the reader."""

    text: str


class Reasoning(msgspec.Struct, frozen=True):
    """Text the model thinks."""

    text: str


class CallStart(msgspec.Struct, frozen=True):
    """A tool call begins; index counts from 0."""

    index: int
    name: str


class CallArguments(msgspec.Struct, frozen=True):
    """The next piece of the JSON text of a call's arguments."""

    index: int
    fragment: str


class CallEnd(msgspec.Struct, frozen=True):
    """A call's arguments are complete. Missing where the text was cut or malformed within them."""

    index: int


Event = Content | Reasoning | CallStart | CallArguments | CallEnd


class ParsedCall(msgspec.Struct, frozen=True):
    """A whole call; `arguments` is JSON text, up to where it broke off unless `complete`."""

    name: str
    arguments: str
    complete: bool


class ParsedOutput(msgspec.Struct, frozen=True):
    """A whole answer; None where there is no such text."""

    content: str | None
    reasoning: str | None
    calls: tuple[ParsedCall, ...]


def fold(events: Iterable[Event]) -> ParsedOutput:
    """Add events up to the whole answer."""
    content: list[str] = []
    reasoning: list[str] = []
    names: list[str] = []
    arguments: list[list[str]] = []
    complete: set[int] = set()
    for event in events:
        match event:
            case Content(text):
                content.append(text)
            case Reasoning(text):
                reasoning.append(text)
            case CallStart(_, name):
                names.append(name)
                arguments.append([])
            case CallArguments(index, fragment):
                arguments[index].append(fragment)
            case CallEnd(index):
                complete.add(index)
    calls = tuple(ParsedCall(name, "".join(arguments[i]), i in complete) for i, name in enumerate(names))
    return ParsedOutput("".join(content) or None, "".join(reasoning) or None, calls)
