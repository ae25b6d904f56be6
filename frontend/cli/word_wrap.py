"""Text that comes in pieces, printed so that the terminal breaks no word."""

from __future__ import annotations

import re

_FENCE = "```"
_BREAKS = re.compile(r"( +|\n)")


class WordWrap:
    """Puts line ends where words would not fit; code between fences keeps its lines.

    A word is held back until it is whole, or has no room in a line anyway.

    Args:
        width: cells in a line.
    """

    def __init__(self, width: int) -> None:
        self._width = max(width, 1)
        self._column = 0
        self._blanks = ""
        self._word = ""
        self._line = ""
        self._in_code = False
        self._runs_on = False

    def feed(self, text: str) -> str:
        """What can be printed now that `text` has come."""
        return "".join(self._piece(piece) for piece in _BREAKS.split(text) if piece)

    def close(self) -> str:
        """What was held back."""
        return self._end_word() + self._take_blanks()

    def _piece(self, piece: str) -> str:
        if piece == "\n":
            return self._end_line()
        if piece[0] == " ":
            done = self._end_word()
            self._runs_on = False
            self._blanks += piece
            return done
        return self._add(piece)

    def _add(self, piece: str) -> str:
        from rich.cells import cell_len

        done = ""
        for character in piece:
            wide = cell_len(character) > 1
            if wide:  # such scripts may be broken anywhere
                done += self._end_word()
            self._word += character
            if wide or cell_len(self._word) >= self._width:
                done += self._end_word()
                self._runs_on = not wide
        return done

    def _end_word(self) -> str:
        from rich.cells import cell_len

        if not self._word:
            return ""
        word, self._word = self._word, ""
        self._line += self._blanks + word
        size = cell_len(word)
        fits = self._column + len(self._blanks) + size <= self._width
        if self._in_code or fits or not self._column or self._runs_on:
            done = self._take_blanks() + word
            self._column += size
        else:
            done = "\n" + word
            self._blanks, self._column = "", size
        if self._runs_on:  # longer than a line: the terminal breaks it
            self._column %= self._width
        return done

    def _take_blanks(self) -> str:
        blanks, self._blanks = self._blanks, ""
        self._column += len(blanks)
        return blanks

    def _end_line(self) -> str:
        done = self.close() + "\n"
        if self._line.strip().startswith(_FENCE):
            self._in_code = not self._in_code
        self._line, self._column, self._runs_on = "", 0, False
        return done
