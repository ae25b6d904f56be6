"""Finds the end of a JSON string, object or array in text that comes in pieces: strings, escapes and brackets only."""

from __future__ import annotations

import re

_IN_STRING = re.compile(r'["\\]')
_OUTSIDE = re.compile(r'["{}\[\]]')
_CLOSING = {"{": "}", "[": "]"}


class JsonScanner:
    """Looks at each character once, in time linear in the text and memory linear in the depth.

    Attributes:
        done: the value is complete.
        broken: the value does not begin with a quote or bracket, or a closing bracket matches none that is open.
    """

    __slots__ = ("_closing", "_escaped", "_in_string", "broken", "done")

    def __init__(self) -> None:
        self.done = False
        self.broken = False
        self._closing: list[str] = []
        self._in_string = False
        self._escaped = False

    def scan(self, text: str, at: int) -> int:
        """Go on from text[at]; returns the end of the value, or of the text, or the place where it is broken."""
        if not self._closing and not self._in_string and text[at] not in '"{[':
            self.broken = True
        while at < len(text) and not self.done and not self.broken:
            at = self._string(text, at) if self._in_string else self._outside(text, at)
        return at

    def _string(self, text: str, at: int) -> int:
        if self._escaped:
            self._escaped = False
            return at + 1
        found = _IN_STRING.search(text, at)
        if found is None:
            return len(text)
        if found.group() == "\\":
            self._escaped = True
        else:
            self._in_string = False
            self.done = not self._closing
        return found.end()

    def _outside(self, text: str, at: int) -> int:
        found = _OUTSIDE.search(text, at)
        if found is None:
            return len(text)
        mark = found.group()
        if mark == '"':
            self._in_string = True
        elif mark in _CLOSING:
            self._closing.append(_CLOSING[mark])
        elif self._closing[-1] == mark:
            self._closing.pop()
            self.done = not self._closing
        else:
            self.broken = True
            return found.start()
        return found.end()
