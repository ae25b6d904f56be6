"""Splits what the model thinks from what it says; the rest goes on to a parser of tool calls."""

from __future__ import annotations

from octavo.frontend.output_parsers.events import Content, Event
from octavo.frontend.output_parsers.parser import Grammar, Parser, Parsing
from octavo.frontend.output_parsers.text_reader import Markers, Steps


def thinking(opening: Markers, closing: Markers, opened: bool, enders: Markers | None = None) -> Grammar:
    """Reasoning at the start of the text, between tags.

    Args:
        opening: tags that begin it.
        closing: tags that end it; without one all of the text is reasoning.
        opened: the prompt has opened it: the text begins in reasoning, and an opening tag may still come.
        enders: tags that end it as well and belong to what follows.
    """
    ends = Markers(*closing.words, *(enders.words if enders else ()))

    def grammar(parsing: Parsing) -> Steps[None]:
        yield from parsing.space()
        tag = yield from parsing.one_of(opening)
        if tag:
            parsing.forget()
        if tag or opened:
            parsing.reasoning(parsing.give_back())
            yield from parsing.until(ends, parsing.reasoning)
            if (yield from parsing.one_of(closing)):
                parsing.forget()
        parsing.content(parsing.give_back())
        yield from parsing.until(Markers(), parsing.content)

    return grammar


class ChainedParser:
    """A parser of reasoning whose content is another parser's text."""

    def __init__(self, reasoning: Parser, tools: Parser) -> None:
        self._reasoning = reasoning
        self._tools = tools

    def feed(self, text: str) -> list[Event]:
        """Take the next piece, and return what is certain now."""
        return self._pass_on(self._reasoning.feed(text))

    def finish(self) -> list[Event]:
        """The text has ended: return all that was held back. Nothing may be fed after it."""
        return self._pass_on(self._reasoning.finish()) + self._tools.finish()

    def _pass_on(self, events: list[Event]) -> list[Event]:
        passed: list[Event] = []
        for event in events:
            passed += self._tools.feed(event.text) if isinstance(event, Content) else [event]
        return passed
