"""The last line of a terminal, written anew again and again, with log lines going above it."""

from __future__ import annotations

import logging
import shutil
import threading
from typing import TextIO

_CLEAR = "\r\033[K"


class StatusLine:
    """One line that changes; may be used from several threads.

    Args:
        stream: the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()
        self._text = ""

    def show(self, text: str) -> None:
        """Put `text` into the line, cut to the terminal's width; "" takes the line away."""
        with self._lock:
            width = shutil.get_terminal_size().columns
            shown = text if len(text) < width else text[: width - 2] + "…"
            self._text = shown
            self._write(_CLEAR + shown)

    def print_above(self, text: str) -> None:
        """Write whole lines, and the changing one once more beneath them."""
        with self._lock:
            self._write((_CLEAR if self._text else "") + text + "\n" + self._text)

    def _write(self, text: str) -> None:
        encoding = self._stream.encoding or "ascii"
        self._stream.write(text.encode(encoding, "replace").decode(encoding))
        self._stream.flush()


class StatusLineHandler(logging.Handler):
    """Logs above a status line."""

    def __init__(self, line: StatusLine) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._line.print_above(self.format(record))
        except Exception:  # noqa: BLE001  (as logging's own handlers do it)
            self.handleError(record)
