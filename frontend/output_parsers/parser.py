"""A parser is a grammar over a reader of text and a list of events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from octavo.frontend.output_parsers.events import CallArguments, CallEnd, CallStart, Content, Event, Reasoning
from octavo.frontend.output_parsers.text_reader import MalformedTextError, Markers, Steps, TextReader


class Parser(Protocol):
    """Takes text in pieces; what it finds does not depend on how the text is cut."""

    def feed(self, text: str) -> list[Event]:
        """Take the next piece, and return what is certain now."""

    def finish(self) -> list[Event]:
        """The text has ended: return all that was held back. Nothing may be fed after it."""


class Parsing(TextReader):
    """Reads text and puts out events; a grammar's whole view of the world."""

    def __init__(self) -> None:
        super().__init__()
        self._events: list[Event] = []
        self._index = -1

    @property
    def called(self) -> bool:
        """Some call has begun."""
        return self._index >= 0

    def drain(self) -> list[Event]:
        """Events since the last time."""
        events, self._events = self._events, []
        return events

    def content(self, text: str) -> None:
        self.forget()
        if text:
            self._events.append(Content(text))

    def reasoning(self, text: str) -> None:
        self.forget()
        if text:
            self._events.append(Reasoning(text))

    def start(self, name: str) -> None:
        self.forget()
        self._index += 1
        self._events.append(CallStart(self._index, name))

    def arguments(self, fragment: str) -> None:
        """Put out a piece of the arguments of the call begun last."""
        self.forget()
        if fragment:
            self._events.append(CallArguments(self._index, fragment))

    def end_call(self) -> None:
        """The arguments of the call begun last are complete."""
        self.forget()
        self._events.append(CallEnd(self._index))


Grammar = Callable[[Parsing], Steps[None]]
MarkedCall = Callable[[Parsing], Steps[None]]
"""Reads what follows a marker: one call or several. Raises MalformedTextError with the text that is no call on the record."""


class GrammarParser:
    """The parser of a grammar."""

    def __init__(self, grammar: Grammar) -> None:
        self._parsing = Parsing()
        self._steps = grammar(self._parsing)
        next(self._steps)

    def feed(self, text: str) -> list[Event]:
        """Take the next piece, and return what is certain now."""
        if text:
            self._parsing.add(text)
            next(self._steps)
        return self._parsing.drain()

    def finish(self) -> list[Event]:
        """The text has ended: return all that was held back. Nothing may be fed after it."""
        self._parsing.end()
        next(self._steps, None)
        return self._parsing.drain()


def attempt(parsing: Parsing, call: MarkedCall) -> Steps[bool]:
    """Read a call; what turns out to be none is content."""
    try:
        yield from call(parsing)
    except MalformedTextError:
        parsing.content(parsing.give_back())
        return False
    return True


def closed(call: MarkedCall, closing: str) -> MarkedCall:
    """White space and a call, then a closing tag, which may be missing or, if "", there is none."""

    def read(parsing: Parsing) -> Steps[None]:
        yield from parsing.space()
        yield from call(parsing)
        yield from parsing.space()
        if closing and (yield from parsing.literal(closing)):
            parsing.forget()

    return read


def separated(parsing: Parsing, call: MarkedCall, separator: str) -> Steps[None]:
    """Calls, one or more, with white space around them and a separator between."""
    while True:
        yield from parsing.space()
        yield from call(parsing)
        yield from parsing.space()
        if not (yield from parsing.literal(separator)):
            return


def listed(parsing: Parsing, call: MarkedCall) -> Steps[None]:
    """Calls, one or more, in brackets and with commas between."""
    yield from parsing.expect("[")
    yield from separated(parsing, call, ",")
    yield from parsing.expect("]")
    parsing.forget()


def calls_in_text(parsing: Parsing, markers: Markers, call: MarkedCall, bare: str = "") -> Steps[None]:
    """Text with calls in it. White space before a call goes unless content precedes it, and so does it at the end after one.

    Args:
        parsing: what is read and put out.
        markers: each begins a call, wherever it stands.
        call: reads what follows a marker.
        bare: a character that begins a call without a marker, at the very start of the text; it stays unread.
    """
    clean = True
    yield from parsing.space()
    if bare and (yield from parsing.peek()) == bare:
        clean = yield from attempt(parsing, call)
    while (yield from parsing.peek()):
        if clean:
            yield from parsing.space()
        if not clean or not (yield from parsing.one_of(markers)):
            if clean and parsing.called and not (yield from parsing.peek()):
                break
            parsing.content(parsing.give_back())
            yield from parsing.until(markers, parsing.content)
            if not (yield from parsing.one_of(markers)):
                break
        clean = yield from attempt(parsing, call)
    if not parsing.called:
        parsing.content(parsing.give_back())
