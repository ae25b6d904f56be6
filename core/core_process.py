"""The core process as its parent sees it: start, death, end."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable

import zmq

from octavo.config import EngineConfig
from octavo.core.bootstrap import Bootstrap, write_bootstrap
from octavo.core.transport import make_socket_directory, remove_socket_directory
from octavo.core.waiting_core import WaitingCore
from octavo.owner import Owner

logger = logging.getLogger(__name__)

OnDeath = Callable[[str], None]
"""Called once, from a thread of its own, with words for what happened."""


class CoreProcess:
    """Sends `config` to a waiting core's stdin, which stays open: its end tells the core that we are gone."""

    def __init__(self, core: WaitingCore, config: EngineConfig, on_death: OnDeath) -> None:
        self._owner = Owner()
        self.addresses = make_socket_directory()
        self._on_death = on_death
        bootstrap = Bootstrap(config, self.addresses, time.monotonic())
        self._process = core.take()
        self.pid = self._process.pid
        _start_watch(self._wait)
        try:
            write_bootstrap(self._process.stdin, bootstrap)  # type: ignore[arg-type]
        except BrokenPipeError:
            logger.debug("the core process ended before it read its configuration")

    @property
    def exit_code(self) -> int | None:
        """As subprocess has it: None while it runs, negative for a signal."""
        return self._process.returncode

    def stop(self, timeout: float) -> None:
        """Ask the core to end; kill it when it has not after `timeout` seconds. Removes the sockets' directory.

        In a forked child of who started it, nothing happens.
        """
        if self._owner.is_elsewhere:
            return
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            logger.warning("the engine core did not end within %g s; killing it", timeout)
            self._process.kill()
            self._process.wait()
        remove_socket_directory(self.addresses)

    def _wait(self) -> None:
        code = self._process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        self._on_death(f"the engine core process {self.pid} {how}")


def watch_stranger(pid: int, on_death: OnDeath, stopped: Callable[[], bool]) -> None:
    """Watch a process of this host that is not our child, until `stopped`."""
    _start_watch(lambda: _wait_for_stranger(pid, on_death, stopped))


def _wait_for_stranger(pid: int, on_death: OnDeath, stopped: Callable[[], bool]) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        on_death(f"the engine core process {pid} is gone")
        return
    try:
        poller = zmq.Poller()
        poller.register(descriptor, zmq.POLLIN)
        while not stopped():
            if poller.poll(1000):
                on_death(f"the engine core process {pid} is gone")
                return
    finally:
        os.close(descriptor)


def _start_watch(target: Callable[[], None]) -> None:
    threading.Thread(target=target, name="octavo-core-watch", daemon=True).start()
