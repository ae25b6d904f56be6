"""A server for this command alone, in a process that ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from socket import AF_UNIX, socket
from types import TracebackType
from typing import TYPE_CHECKING, Self

from octavo import envs
from octavo.errors import ConfigError
from octavo.frontend.cli.address import Address

if TYPE_CHECKING:
    from octavo.frontend.cli.client import Client

_LOOK_INTERVAL = 0.05
_END_SECONDS = 5.0
_SHORT_FOLDER = "/tmp"  # noqa: S108  (mkdtemp makes a folder in it that is the user's alone)
_LONGEST_SOCKET = 107
"""Bytes in the path of a Unix socket on Linux."""


class OwnServer:
    """`octavo serve WORDS` on a Unix socket that only this user can reach; a context manager.

    The process has a session of its own, so that the terminal's Ctrl-C does not reach it.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)

    def __enter__(self) -> Self:
        self._folder = _socket_folder()
        self._socket = _socket_in(self._folder.name)
        command = [sys.executable, "-m", "octavo.frontend.cli.private_server", *self._words]
        command += ["--uds", self._socket, "--shutdown-timeout", "0", "--disable-access-log"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)  # a download's process is in its group, too
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def wait_ready(self) -> int | None:
        """Until the server serves; its exit code when it ends instead, its reason having been printed."""
        from octavo.frontend.cli import chat_session  # noqa: F401  (imported while the server starts)

        while True:
            code = self._process.poll()
            if code is not None:
                return code or 1
            if self._is_ready():
                return None
            time.sleep(_LOOK_INTERVAL)

    async def client(self) -> Client:
        """A client of this server."""
        from octavo.frontend.cli.client import Client

        return Client(Address("http://localhost", self._socket), None, envs.get("API_KEY"))

    def _is_ready(self) -> bool:
        connection = _UnixConnection(self._socket)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:  # not there yet
            return False
        finally:
            connection.close()


def _socket_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for a socket, where temporary files belong; somewhere shorter if the socket's path would be too long.

    The server removes it if this process has no time to.

    Raises:
        ConfigError: there is no place for it.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="octavo-run-")
        if len(os.fsencode(_socket_in(folder.name))) <= _LONGEST_SOCKET:
            return folder
        folder.cleanup()
        return tempfile.TemporaryDirectory(prefix="octavo-run-", dir=_SHORT_FOLDER)
    except OSError as error:
        reason = f"no folder for a socket can be made ({error}); set TMPDIR to a folder of yours with a short path"
        raise ConfigError(reason) from None


def _socket_in(folder: str) -> str:
    return str(Path(folder) / "server")


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=5.0)
        self._path = path

    def connect(self) -> None:
        self.sock = socket(AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
