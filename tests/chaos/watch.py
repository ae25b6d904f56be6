"""What a server does while it is attacked: its processes, memory, counts, and how long its event loop takes for a turn."""

from __future__ import annotations

import asyncio
import re
import resource
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import aiohttp

from octavo.tools import process_tree

PROBE_INTERVAL = 0.005
_COUNTS = re.compile(
    r"(num_requests_(running|waiting)|(gpu|kv)_cache_usage_perc|kv_cache_usage_ratio|requests_(processing|deferred))$"
)
"""Gauges that are zero in a server at rest: Octavo's and vLLM's, llama.cpp's."""
_SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)(\{[^}]*\})? (\S+)", re.MULTILINE)


class Probe(NamedTuple):
    """A question to /health: when, how long until its answer, what the event loop's thread computed meanwhile; seconds."""

    asked: float
    took: float
    computed: float


@dataclass(frozen=True)
class Turns:
    """What the server itself says of its event loop: turns of more than 0.1 s so far, and the longest one in seconds."""

    slow: int
    longest: float


class Watch:
    """Eyes on one server, from outside; a context manager.

    Args:
        url: base URL without /v1.
        pid: the process whose main thread runs the event loop; its children are watched, too.
    """

    def __init__(self, url: str, pid: int) -> None:
        self.url, self.pid = url, pid
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.probes: deque[Probe] = deque(maxlen=200_000)
        self.first_processes = {p.pid: _command(p.pid) for p in process_tree.tree(pid)}

    async def __aenter__(self) -> Self:
        schedstat = Path(f"/proc/{self.pid}/task/{self.pid}/schedstat")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "chaos.probe", self.host, str(self.port), str(schedstat), str(PROBE_INTERVAL),
            stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parent.parent,
        )  # fmt: skip
        self._reader = asyncio.create_task(self._collect())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        await self._process.wait()
        await self._reader

    async def _collect(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.probes.append(Probe(*map(float, line.split())))

    def probes_between(self, began: float, ended: float) -> list[Probe]:
        """Questions whose wait overlaps an interval of `time.monotonic`."""
        found = []
        for probe in reversed(self.probes):
            if probe.asked + probe.took < began:
                break
            if probe.asked <= ended:
                found.append(probe)
        return found

    def memory(self) -> int:
        """Bytes that the server's processes hold now, without pages of files: what of a library's pages counts as theirs depends
        on who else on the machine has it loaded."""
        return sum(_anonymous_bytes(process.pid) for process in process_tree.tree(self.pid))

    def alive(self) -> bool:
        """Whether the server's first process is there."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] not in "ZX"

    def fence(self, headroom: int) -> None:
        """Let no process of the server have so much more private memory than now, bytes: the machine must outlive its fault.

        An allocation past that fails in the server, which is a fault of its answer, not the end of its neighbours.
        """
        for process in process_tree.tree(self.pid):
            limit = _private_bytes(process.pid) + headroom
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (limit, limit))

    def ended(self) -> list[str]:
        """Processes that were there at first and are not any more."""
        alive = {p.pid for p in process_tree.tree(self.pid)}
        return [f"{pid} {command}" for pid, command in self.first_processes.items() if pid not in alive]

    async def metrics(self, session: aiohttp.ClientSession) -> dict[str, float]:
        """/metrics as name -> value, samples of one name added up; empty when the server has none."""
        async with session.get(self.url + "/metrics") as response:
            text = await response.text() if response.status == 200 else ""
        values: dict[str, float] = {}
        for name, labels, value in _SAMPLE.findall(text):
            key = name + (f"|{found[1]}" if (found := re.search(r'le="([^"]*)"', labels)) else "")
            values[key] = values.get(key, 0.0) + float(value)
        return values

    async def cache_tokens(self, session: aiohttp.ClientSession) -> int | None:
        """Tokens that the KV cache holds; None when the server does not say."""
        async with session.get(self.url + "/metrics") as response:
            info = next((line for line in (await response.text()).splitlines() if "cache_config_info{" in line), "")
        sizes = dict(re.findall(r'(num_gpu_blocks|block_size)="(\d+)"', info))
        return int(sizes["num_gpu_blocks"]) * int(sizes["block_size"]) if len(sizes) == 2 else None

    async def turns(self, session: aiohttp.ClientSession) -> Turns | None:
        """None when the server does not say."""
        values = await self.metrics(session)
        longest = values.get("octavo:event_loop_longest_turn_seconds")
        if longest is None:
            return None
        name = "octavo:event_loop_turn_seconds"
        return Turns(int(values[f"{name}_count"] - values[f"{name}_bucket|0.1"]), longest)

    async def busy(self, session: aiohttp.ClientSession) -> dict[str, float]:
        """Counts that are not zero: requests running or waiting, blocks in use, requests in flight."""
        counts = {name: value for name, value in (await self.metrics(session)).items() if _COUNTS.search(name) and value}
        async with session.get(self.url + "/load") as response:
            if response.status == 200 and (load := (await response.json()).get("server_load")):
                counts["server_load"] = load
        return counts


def _anonymous_bytes(pid: int) -> int:
    """Memory of a process that is no file's, pages it shares with others divided; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


def _private_bytes(pid: int) -> int:
    """Private writable memory that a process has asked for, as RLIMIT_DATA counts it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), 0)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:80]
    except OSError:
        return ""
