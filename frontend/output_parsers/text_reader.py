"""Reads a growing text: grammars are generators that yield wherever they need more of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import TypeVar

from octavo.frontend.output_parsers.json_scanner import JsonScanner

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Part of a grammar: yields to ask for more text, and returns what it read."""


class MalformedTextError(Exception):
    """The text is not, or no longer, what the grammar expects; what was read and not used is in the reader's record."""


class Markers:
    """Fixed words to look for. None may contain the beginning of another that starts before it ends."""

    def __init__(self, *words: str) -> None:
        self.words = words
        self._pattern = re.compile("|".join(map(re.escape, words)) or "(?!)")
        self._longest = max(map(len, words), default=0)

    def find(self, text: str, start: int) -> re.Match[str] | None:
        """The first marker in text[start:]."""
        return self._pattern.search(text, start)

    def safe_end(self, text: str, start: int) -> int:
        """Up to where no marker can begin, however the text goes on."""
        for place in range(max(start, len(text) - self._longest + 1), len(text)):
            if any(word.startswith(text[place:]) for word in self.words):
                return place
        return len(text)


class TextReader:
    """The unread text, and a record of what was read since the last use of it.

    Text is read the same however it comes in pieces: every method decides only on what no further text can change.
    """

    def __init__(self) -> None:
        self._text = ""
        self._at = 0
        self._record: list[str] = []
        self._ended = False

    def add(self, piece: str) -> None:
        """The next piece of text."""
        self._text = self._text[self._at :] + piece
        self._at = 0

    def end(self) -> None:
        """No more text will come."""
        self._ended = True

    def forget(self) -> None:
        """What was read has been used."""
        self._record.clear()

    def give_back(self) -> str:
        """What was read and not used."""
        text = "".join(self._record)
        self._record.clear()
        return text

    def last_read_is(self, word: str) -> bool:
        """The last word read, and not used, is this one."""
        return bool(self._record) and self._record[-1] == word

    def peek(self) -> Steps[str]:
        """The next character, "" at the end."""
        while self._at == len(self._text) and not self._ended:
            yield
        return self._text[self._at : self._at + 1]

    def take_one(self) -> Steps[str]:
        """Read the next character; "" at the end."""
        character = yield from self.peek()
        return self._take(self._at + len(character))

    def space(self) -> Steps[None]:
        """Read white space, if any."""
        while (yield from self.peek()).isspace():
            self._take(self._at + 1)

    def literal(self, word: str) -> Steps[bool]:
        """Read this word if it comes next."""
        while True:
            have = self._text[self._at : self._at + len(word)]
            if have == word:
                self._take(self._at + len(word))
                return True
            if self._ended or not word.startswith(have):
                return False
            yield

    def expect(self, word: str) -> Steps[None]:
        """Read this word, or raise MalformedTextError."""
        if not (yield from self.literal(word)):
            raise MalformedTextError

    def one_of(self, markers: Markers) -> Steps[str]:
        """Read a marker if one comes next; "" if none does."""
        for word in markers.words:
            if (yield from self.literal(word)):
                return word
        return ""

    def take_while(self, allowed: Callable[[str], bool]) -> Steps[str]:
        """Read characters that are allowed; at least one must be, or MalformedTextError is raised."""
        taken: list[str] = []
        while (character := (yield from self.peek())) and allowed(character):
            taken.append(self._take(self._at + 1))
        if not taken:
            raise MalformedTextError
        return "".join(taken)

    def until(self, markers: Markers, emit: Callable[[str], None], *, whole: bool = True) -> Steps[bool]:
        """Hand text on as it comes, up to a marker (which stays unread) or the end.

        Args:
            markers: where to stop.
            emit: takes the text.
            whole: at the end of the text hand on what may be the beginning of a marker too; else it stays unread.

        Returns:
            True if a marker comes next.
        """
        while True:
            found = markers.find(self._text, self._at)
            if found:
                emit(self._take(found.start()))
                return True
            everything = self._ended and whole
            emit(self._take(len(self._text) if everything else markers.safe_end(self._text, self._at)))
            if self._ended:
                return False
            yield

    def json(self, emit: Callable[[str], None]) -> Steps[None]:
        """Hand on a JSON string, object or array as it comes. Raises MalformedTextError where its brackets do not match."""
        scanner = JsonScanner()
        while not scanner.done:
            if not (yield from self.peek()):
                raise MalformedTextError
            end = scanner.scan(self._text, self._at)
            emit(self._take(end))
            if scanner.broken:
                raise MalformedTextError

    def _take(self, end: int) -> str:
        text = self._text[self._at : end]
        self._at = end
        if text:
            self._record.append(text)
        return text
