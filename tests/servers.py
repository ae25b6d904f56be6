"""Real server processes for tests: started on a free port, waited for, ended by their own pid."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

HANG_GUARD = 120.0
"""Seconds that tests of processes wait for what must come, before they call it a hang: a loaded machine is no fault."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def core_pid(server: OctavoServer) -> int:
    """The process of a server's engine core; a successor may be another thread's child."""
    for task in Path(f"/proc/{server.process.pid}/task").iterdir():
        for pid in (task / "children").read_text().split():
            if b"octavo.core.process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
    raise AssertionError(f"no core among the children of {server.process.pid}\n{server.log_tail()}")


class OctavoServer:
    """`octavo serve MODEL FLAGS...` as a context manager.

    Attributes:
        url: base URL, without /v1.
        process: the server's process, for tests that kill it.
        log_path: its stdout and stderr.
        expect_exit: the exit code that SIGTERM must lead to; None = any (for tests that end the server themselves).
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        flags: Sequence[str] = (),
        *,
        env: dict[str, str] | None = None,
        ready_timeout: float = HANG_GUARD,
        stop_timeout: float = HANG_GUARD,
        expect_exit: int | None = 0,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.expect_exit = expect_exit
        self._command = [sys.executable, "-m", "octavo.frontend.cli.main", "serve", str(model), "--host", "127.0.0.1"]
        self._command += ["--port", str(self.port), *flags]
        self._env = {**os.environ, "OMP_NUM_THREADS": "1", "OCTAVO_NUM_THREADS": "1", **(env or {})}
        self._ready_timeout = ready_timeout
        self._stop_timeout = stop_timeout
        self._folder = tempfile.TemporaryDirectory(prefix="octavo-test-server-")
        self.log_path = Path(self._folder.name) / "server.log"
        self._log: IO[bytes] | None = None
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        self._log = self.log_path.open("wb")
        self.process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT, env=self._env
        )
        try:
            self.wait_ready()
        except BaseException:
            self._kill()
            self._clean()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            code = self.stop()
            if error is None and self.expect_exit is not None:
                assert code == self.expect_exit, f"server ended with {code}, not {self.expect_exit}\n{self.log_tail()}"
        finally:
            self._clean()

    def wait_ready(self) -> None:
        """Return when /readyz answers 200; raise with the log's tail when the process ends or time runs out."""
        deadline = time.monotonic() + self._ready_timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"server exited with {self.process.returncode} before it was ready\n{self.log_tail()}")
            if self.status("/readyz") == 200:
                return
            time.sleep(0.05)
        raise TimeoutError(f"server not ready after {self._ready_timeout} s\n{self.log_tail()}")

    def stop(self) -> int:
        """SIGTERM, wait for the end, return the exit code; SIGKILL when it does not end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(self._stop_timeout)
        except subprocess.TimeoutExpired:
            self._kill()
            raise TimeoutError(f"server ignored SIGTERM for {self._stop_timeout} s\n{self.log_tail()}") from None

    def status(self, path: str) -> int | None:
        """HTTP status of a GET, None when nobody answers."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def get(self, path: str) -> str:
        """Body of a GET."""
        with urllib.request.urlopen(self.url + path, timeout=HANG_GUARD) as response:
            return str(response.read().decode())

    def post(self, path: str, body: dict[str, Any], timeout: float = HANG_GUARD) -> dict[str, Any]:
        """JSON answer to a POST of JSON; raises urllib.error.HTTPError for 4xx and 5xx."""
        request = urllib.request.Request(
            self.url + path, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=timeout) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    def log_text(self) -> str:
        """All the server has written so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines: int = 60) -> str:
        return "\n".join(self.log_text().splitlines()[-lines:])

    def _kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _clean(self) -> None:
        if self._log is not None:
            self._log.close()
        self._folder.cleanup()
