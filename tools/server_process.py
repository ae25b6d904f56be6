"""An OpenAI-compatible server as a child process: started on a free port, waited for, asked for a token, ended whole."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from socket import SO_REUSEADDR, SOL_SOCKET, socket
from types import TracebackType
from typing import Self

import aiohttp

from octavo.errors import OctavoError
from octavo.tools import process_tree
from octavo.tools.client import ENDPOINTS, Target, list_models, send
from octavo.tools.datasets import BenchRequest

STOP_TIMEOUT = 30.0
"""Seconds to end after SIGTERM, then the same to give the port back."""
TAIL_LINES = 25
_POLL_SECONDS = 0.05
_NOT_YET = ("503", "Client", "Server")
"""How the error of a request begins that a server was not ready for: its status, or the exception of a lost connection."""
_FIRST_REQUEST = BenchRequest(prompt="Hello", token_ids=[], output_len=1)


class ServerError(OctavoError):
    """A server did not start, died, or could not be ended; the message holds the end of its log."""


class ServerProcess:
    """A server as a context manager: leaving it ends the server and all it started, and waits for its port.

    Attributes:
        port: where it listens, url: the same as an address without /v1.
        started: when the process was started, on the clock of `time.perf_counter`.
        log_path: its stdout and stderr.
    """

    def __init__(self, name: str, command: str, log_path: Path) -> None:
        """Args:
        command: for the shell; {port} in it becomes the port.
        """
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = log_path
        self._command = command.replace("{port}", str(self.port))

    def __enter__(self) -> Self:
        with self.log_path.open("wb") as log:
            self.started = time.perf_counter()
            # A session of its own: its group can be signalled as a whole, and Ctrl-C reaches us alone, who then end it.
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        process_tree.end(self._process.pid, STOP_TIMEOUT)
        self._process.wait()
        deadline = time.monotonic() + STOP_TIMEOUT
        while not port_is_free(self.port):
            if time.monotonic() > deadline:
                raise self.fault(f"port {self.port} is still taken after its end")
            time.sleep(_POLL_SECONDS)

    def check_alive(self) -> None:
        """Raises: ServerError: the server has ended."""
        if self._process.poll() is not None:
            raise self.fault(f"ended with exit code {self._process.returncode}")

    def fault(self, what: str) -> ServerError:
        """An error about this server, with the end of its log."""
        lines = self.log_path.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return ServerError("\n    ".join([f"{self.name}: {what}; its log ends with:", *(lines or ["(nothing)"])]))

    async def wait_ready(
        self,
        session: aiohttp.ClientSession,
        model: str | None,
        limit: float,
        waiting: Callable[[], object] = lambda: None,
    ) -> tuple[str, float]:
        """Wait for its health, then for a first token.

        Args:
            model: name that requests use; None = the first one the server lists.
            limit: seconds since the start.
            waiting: called again and again meanwhile.

        Returns:
            The model's name, and the seconds from the process's start to the first token.

        Raises:
            ServerError: it ended, took longer, or refused the request.
        """
        deadline = self.started + limit
        while not await self._healthy(session):
            await self._wait(deadline, waiting)
        name = model or await self._listed_model(session)
        target = Target(self.url + ENDPOINTS["openai"], chat=False, model=name, ignore_eos=True)
        while True:
            result = await send(session, target, _FIRST_REQUEST)
            if result.success:
                return name, result.sent + result.ttft - self.started
            if not result.error.startswith(_NOT_YET):
                raise self.fault(f"refused the first request: {result.error}")
            await self._wait(deadline, waiting)

    async def _wait(self, deadline: float, waiting: Callable[[], object]) -> None:
        waiting()
        self.check_alive()
        if time.perf_counter() > deadline:
            raise self.fault(f"not ready {deadline - self.started:.0f} s after its start")
        await asyncio.sleep(_POLL_SECONDS)

    async def _healthy(self, session: aiohttp.ClientSession) -> bool:
        """Whether /health says so, or /v1/models of a server that has no /health."""
        status = await self._status(session, "/health")
        return status == 200 or (status == 404 and await self._status(session, "/v1/models") == 200)

    async def _status(self, session: aiohttp.ClientSession, path: str) -> int:
        try:
            async with session.get(self.url + path, timeout=aiohttp.ClientTimeout(total=10)) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    async def _listed_model(self, session: aiohttp.ClientSession) -> str:
        try:
            models = await list_models(session, self.url, {})
            return str(models[0]["id"])
        except (aiohttp.ClientError, TimeoutError, LookupError) as error:
            raise self.fault(f"/v1/models names no model ({error}); give --served-model-name") from None

    def memory(self) -> int:
        """Bytes that the server's processes hold now, shared pages counted once."""
        return process_tree.proportional_bytes(process_tree.tree(self._process.pid))

    def peak_memory(self) -> int:
        """Sum of the processes' highest resident sizes, bytes."""
        return process_tree.peak_bytes(process_tree.tree(self._process.pid))


def free_port() -> int:
    """A TCP port nobody listens on now."""
    with socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Whether nobody listens on a port of 127.0.0.1 (connections that are still closing do not count)."""
    with socket() as sock:
        sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
