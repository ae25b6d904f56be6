"""Stop strings in a growing text: the match that is complete first wins, ties go to the first in the list."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Lets text through up to a stop string, and holds back only what may turn out to begin one.

    The result is the same however the text is cut into pieces.
    """

    __slots__ = ("_include", "_open", "_stops")

    def __init__(self, stops: Sequence[str], include_in_output: bool) -> None:
        self._stops = stops
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
        for stop in self._stops:
            start = text.find(stop, max(0, before - len(stop) + 1))
            if start >= 0 and (best is None or start + len(stop) < best[0]):
                best = start + len(stop), stop
        return best

    def _open_length(self, text: str) -> int:
        longest = 0
        for stop in self._stops:
            start = text.find(stop[0], max(0, len(text) - len(stop) + 1))
            while start >= 0 and len(text) - start > longest:
                if stop.startswith(text[start:]):
                    longest = len(text) - start
                    break
                start = text.find(stop[0], start + 1)
        return longest
