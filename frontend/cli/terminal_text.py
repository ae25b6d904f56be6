"""Text from a model or a server, made fit for a terminal: what would drive the terminal is shown instead.

An escape sequence can move the cursor, change what is written already, or set the clipboard; a bidi control can show words in
another order than they have. Neither may come from the other side of a connection.
"""

from __future__ import annotations

_BIDI = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_C0 = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t\r"}
_SHOWN: dict[int, str] = {
    **_C0,
    ord("\r"): "",  # half of a line end; alone it would go back over the line
    0x7F: "\u2421",
    **{code: f"<U+{code:04X}>" for code in (*range(0x80, 0xA0), *_BIDI)},
}


def printable(text: str) -> str:
    """The text without a character that a terminal obeys; line ends and tabs stay.

    Every character is looked at alone, so a text may come in any pieces.
    """
    return text if text.isascii() and text.isprintable() else text.translate(_SHOWN)


def printable_line(text: str) -> str:
    """Printable text in one line: for names, and for cells of a table."""
    return printable(text).replace("\n", "\u240a").replace("\t", "\u2409")
