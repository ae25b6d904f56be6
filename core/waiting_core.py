"""A core process that has not been told yet what to serve: started first, it imports while others read the configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

CORE_COMMAND = (sys.executable, "-P", "-m", "octavo.core.process")
_END_TIMEOUT = 5.0


class WaitingCore:
    """A core process that waits for its `Bootstrap`; as a context manager it ends with the block unless it was taken.

    The process has a session of its own, so that the terminal's Ctrl-C does not reach it.

    Args:
        command: what to run.
        environment: variables for it besides this process's own.
    """

    def __init__(self, command: Sequence[str] = CORE_COMMAND, environment: Mapping[str, str] | None = None) -> None:
        self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
            command, stdin=subprocess.PIPE, start_new_session=True, env={**os.environ, **(environment or {})}
        )

    def take(self) -> subprocess.Popen[bytes]:
        """The process, which from now on is the caller's. Raises: RuntimeError: it was taken or closed before."""
        process, self._process = self._process, None
        if process is None:
            raise RuntimeError("this core process has been taken or closed")
        return process

    def close(self) -> None:
        """End the process if nobody has taken it. Idempotent."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            try:
                process.wait(_END_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
