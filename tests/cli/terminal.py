"""A command in a terminal of its own, as a person sees it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from types import TracebackType
from typing import Self

COMMAND = [sys.executable, "-m", "octavo.frontend.cli.main"]
_TAKE_TERMINAL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
HANG = 120.0
"""Seconds after which something hangs."""


class Terminal:
    """Runs `octavo WORDS` on a pseudo-terminal; a context manager that ends it.

    Attributes:
        output: all that has been written, escape sequences included.
    """

    def __init__(self, *words: str, columns: int = 80, env: dict[str, str] | None = None) -> None:
        self._words, self._columns = words, columns
        self._env = {**os.environ, "TERM": "xterm", "OMP_NUM_THREADS": "1", "OCTAVO_NUM_THREADS": "1", **(env or {})}
        self._env.pop("COLUMNS", None)
        self.output = ""
        self._seen = 0

    def __enter__(self) -> Self:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, self._columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *COMMAND, *self._words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=self._env,
            start_new_session=True,
        )
        os.close(slave)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        os.close(self._master)

    def type(self, text: str) -> None:
        """Send keys."""
        os.write(self._master, text.encode())

    def wait_for(self, text: str) -> str:
        """Until `text` is written, after all that was waited for before; returns what came up to its end."""
        return self._until(lambda: text in self.output[self._seen :], text)

    def wait_end(self) -> int:
        """Until the command ends; its exit code."""
        deadline = time.monotonic() + HANG
        while self._read(0.1):
            assert time.monotonic() < deadline, f"does not end\n{self.output}"
        return self.process.wait(HANG)

    def interrupt_until_end(self) -> int:
        """Press Ctrl-C at a prompt, and again each second as a person would, until the command ends; its exit code.

        A signal between the moment a prompt is written and the moment its input is waited for stays with Python's line editing
        until the next key.
        """
        presses = 0
        started = time.monotonic()
        while self._read(0.1):
            elapsed = time.monotonic() - started
            assert elapsed < HANG, f"does not end\n{self.output}"
            if elapsed >= presses:
                self.type("\x03")
                presses += 1
        return self.process.wait(HANG)

    def _until(self, condition: object, text: str) -> str:
        deadline = time.monotonic() + HANG
        while not condition():  # type: ignore[operator]
            assert self._read(0.1), f"ended without {text!r}\n{self.output}"
            assert time.monotonic() < deadline, f"no {text!r} in\n{self.output}"
        end = self.output.index(text, self._seen) + len(text)
        part, self._seen = self.output[self._seen : end], end
        return part

    def _read(self, seconds: float) -> bool:
        """Take in what is there; False when the command has ended and all is read."""
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError:  # nobody has the other side open any more
            return False
        self.output += data.decode(errors="replace")
        return bool(data)
