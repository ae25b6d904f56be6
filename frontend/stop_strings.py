"""Stop strings in a growing text: the match that is complete first wins, ties go to the first in the list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache


class _StopIndex:
    """Stop strings by their first and last characters: of thousands, few can begin or end in a piece of text.

    Attributes:
        longest: characters of the longest.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self.longest = max(map(len, stops))
        self._stops = stops
        self._by_last: dict[str, list[int]] = {}
        self._by_first: dict[str, list[str]] = {}
        for number, stop in enumerate(stops):
            self._by_last.setdefault(stop[-1], []).append(number)
            self._by_first.setdefault(stop[0], []).append(stop)

    def ending_in(self, text: str) -> Iterator[str]:
        """Those whose last character is in the text, in their order."""
        numbers = [number for character in set(text) for number in self._by_last.get(character, ())]
        return map(self._stops.__getitem__, sorted(numbers))

    def beginning_with(self, character: str) -> Sequence[str]:
        """Those that begin with a character."""
        return self._by_first.get(character, ())


_index = lru_cache(maxsize=64)(_StopIndex)
"""The n sequences of a request have the same stop strings."""


class StopMatcher:
    """Lets text through up to a stop string, and holds back only what may turn out to begin one.

    The result is the same however the text is cut into pieces.

    Args:
        stops: at least one string, none empty.
        include_in_output: a stop string that is found stays in the text.
    """

    __slots__ = ("_include", "_index", "_open")

    def __init__(self, stops: Sequence[str], include_in_output: bool) -> None:
        self._index = _index(tuple(stops))
        self._include = include_in_output
        self._open = ""
        """Longest end of the text that begins some stop string (and is none yet)."""

    def feed(self, new: str, check: bool = True) -> tuple[str, str | None]:
        """Take the next piece of text.

        Args:
            new: the piece.
            check: False = a stop string completed in this piece does not count (min_tokens).

        Returns:
            Text that may go out, and the stop string that was found, if any. Nothing may be fed after a match.
        """
        before = len(self._open)
        text = self._open + new
        found = self._first_match(text, before) if check else None
        if found is not None:
            end, stop = found
            self._open = ""
            return (text[before:end] if self._include else text[: end - len(stop)]), stop
        held = self._open_length(text)
        self._open = text[len(text) - held :]
        return (new if self._include else text[: len(text) - held]), None

    def flush(self) -> str:
        """The text is over: what was held back."""
        held, self._open = self._open, ""
        return "" if self._include else held

    def _first_match(self, text: str, before: int) -> tuple[int, str] | None:
        """(end, stop) of the match that ends first, among those that end behind `before`."""
        best: tuple[int, str] | None = None
        for stop in self._index.ending_in(text[before:]):
            start = text.find(stop, max(0, before - len(stop) + 1))
            if start >= 0 and (best is None or start + len(stop) < best[0]):
                best = start + len(stop), stop
        return best

    def _open_length(self, text: str) -> int:
        """Length of the longest end of the text that begins some longer stop string."""
        for start in range(max(0, len(text) - self._index.longest + 1), len(text)):
            stops = self._index.beginning_with(text[start])
            if stops:
                end = text[start:]
                if any(len(stop) > len(end) and stop.startswith(end) for stop in stops):
                    return len(end)
        return 0
