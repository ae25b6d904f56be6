"""A core process that has not been told yet what to serve: started first, it imports while others read the configuration."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from octavo import envs
from octavo.config.foreign_envs import core_environment
from octavo.owner import Owner

CORE_COMMAND = (sys.executable, "-P", "-m", "octavo.core.process")
_END_TIMEOUT = 5.0
_started: weakref.WeakSet[subprocess.Popen[bytes]] = weakref.WeakSet()


def _let_go() -> None:
    """In a forked child: its copies of the pipes must not keep cores alive that their parent has closed.

    The descriptors are pointed elsewhere, not closed, for the copied file objects still name them.
    """
    pipes = [process.stdin for process in _started if process.stdin is not None and not process.stdin.closed]
    if pipes:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for pipe in pipes:
            os.dup2(nowhere, pipe.fileno(), inheritable=False)
        os.close(nowhere)


os.register_at_fork(after_in_child=_let_go)


class WaitingCore:
    """A core process that waits for its `Bootstrap`; as a context manager it ends with the block unless it was taken.

    The process has a session of its own, so that the terminal's Ctrl-C does not reach it.

    Args:
        command: what to run.
        environment: variables for it besides this process's own.

    Raises:
        ConfigError: an environment variable that it would read is malformed.
    """

    def __init__(self, command: Sequence[str] = CORE_COMMAND, environment: Mapping[str, str] | None = None) -> None:
        envs.check()
        self._owner = Owner()
        self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
            command, stdin=subprocess.PIPE, start_new_session=True, env={**core_environment(), **(environment or {})}
        )
        _started.add(self._process)

    def take(self) -> subprocess.Popen[bytes]:
        """The process, which from now on is the caller's. Raises: RuntimeError: it was taken or closed before."""
        process, self._process = self._process, None
        if process is None:
            raise RuntimeError("this core process has been taken or closed")
        return process

    def close(self) -> None:
        """End the process if nobody has taken it; in a forked child nothing happens. Idempotent."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None and not self._owner.is_elsewhere:
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
