"""Reads one message at a time from a terminal or a pipe, of one line or of more."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path

from octavo import envs
from octavo.errors import ConfigError
from octavo.frontend.cli import utf8

QUOTES = '"""'
_PROMPT, _MORE = "> ", "... "
_PASTE_PAUSE = 0.02
"""Seconds within which the next line of a paste has come; nobody types so fast."""
_MOST_HISTORY = 1000


class MessageReader:
    r"""Puts the lines that make a message together.

    A paste is one message, in terminals that mark pastes and in those that do not; a line that ends in a backslash goes on in the
    next one; after an opening \"\"\" all is one message up to the closing one.

    Args:
        read_line: asks for a line with a prompt; raises EOFError at the end.
    """

    def __init__(self, read_line: Callable[[str], str]) -> None:
        self._read_line = read_line
        self._terminal = sys.stdin.isatty()

    def read(self) -> str | None:
        """The next message, None at the end of input.

        Raises:
            ConfigError: it is not UTF-8.
            KeyboardInterrupt: Ctrl-C.
        """
        try:
            text = self._line(_PROMPT)
        except EOFError:
            return None
        if text.lstrip().startswith(QUOTES):
            return self._quoted(text.lstrip().removeprefix(QUOTES))
        return self._continued(text).strip()

    def _quoted(self, text: str) -> str:
        with contextlib.suppress(EOFError):
            while not text.rstrip().endswith(QUOTES):
                text += "\n" + self._line(_MORE)
        return text.rstrip().removesuffix(QUOTES).strip("\n")

    def _continued(self, text: str) -> str:
        with contextlib.suppress(EOFError):
            while text.endswith("\\"):
                text = text[:-1] + "\n"
                text += self._line(_MORE)
        return text

    def _line(self, prompt: str) -> str:
        try:
            line = self._read_line(prompt)
        except UnicodeDecodeError:
            raise ConfigError("standard input is not UTF-8 text") from None
        if self._terminal:
            line = "\n".join([line, *_pasted()])
        return utf8.checked(line, "standard input")


def _pasted() -> list[str]:
    """Lines that a terminal without marks around pastes has sent behind the first one."""
    descriptor = sys.stdin.fileno()
    data = b""
    while select.select([descriptor], [], [], _PASTE_PAUSE)[0]:
        try:
            piece = os.read(descriptor, 65536)
        except InterruptedError:
            continue
        if not piece:
            break
        data += piece
    return data.decode("utf-8", "surrogateescape").rstrip("\n").split("\n") if data else []


def set_up_line_editing() -> None:
    """Give input() editing keys, pastes as one entry, and a history that is kept from chat to chat."""
    import readline

    readline.parse_and_bind("set enable-bracketed-paste on")
    path = Path(envs.CACHE_DIR) / "chat_history"
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(_MOST_HISTORY)
    atexit.register(_keep_history, path)


def _keep_history(path: Path) -> None:
    """Only its owner may read what was said. A chat is no worse for a disk that is full or not ours."""
    import readline

    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        readline.write_history_file(path)
