"""A process and all it started, as /proc shows them (Linux): who they are, what memory they hold, how they are ended."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_POLL_SECONDS = 0.02
STRAGGLER_SECONDS = 5.0
"""What processes that outlive their session have to end, once asked."""


class Process(NamedTuple):
    """One process. Its pid may be given to another one later, the pair (pid, started) never."""

    pid: int
    parent: int
    session: int
    started: int
    """Clock ticks after boot."""


def tree(root: int) -> list[Process]:
    """The live processes that belong to `root`: its descendants, and the session it leads.

    The session finds those whose parent has ended; the descendants find those with a session of their own.
    """
    processes = list(_processes())
    members = {root}
    while True:
        found = {p.pid for p in processes if p.parent in members or p.session == root} - members
        if not found:
            return [p for p in processes if p.pid in members]
        members |= found


def proportional_bytes(processes: Iterable[Process]) -> int:
    """Memory in use now (PSS): a page that n processes share counts 1/n in each, so that the sum counts it once."""
    return sum(_kilobytes(process, "smaps_rollup", "Pss:") for process in processes) * 1024


def peak_bytes(processes: Iterable[Process]) -> int:
    """Sum of the highest resident sizes since each process began; pages shared between them count in each.

    The kernel keeps this number, so that nothing has to watch (and slow down) the processes while they work.
    """
    return sum(_kilobytes(process, "status", "VmHWM:") for process in processes) * 1024


def end(root: int, timeout: float) -> list[int]:
    """End the tree of `root`, which leads a session: its process group is asked to end, then what outlives it; then killed.

    Args:
        timeout: seconds that the session has to end; what is left of the tree then has STRAGGLER_SECONDS.

    Returns:
        Pids of the processes that had to be killed.
    """
    members = tree(root)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(root, signal.SIGTERM)
    session = [process for process in members if process.session == root]
    _wait_gone(session, timeout)
    left = _alive({*members, *tree(root)})
    _signal(left, signal.SIGTERM)
    left = _wait_gone(left, STRAGGLER_SECONDS)
    _signal(left, signal.SIGKILL)
    _wait_gone(left, timeout)
    return [process.pid for process in left]


def _signal(processes: Iterable[Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _wait_gone(processes: Collection[Process], timeout: float) -> list[Process]:
    """Wait for the end of `processes`; returns those that are still there."""
    deadline = time.monotonic() + timeout
    while (left := _alive(processes)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return left


def _alive(processes: Collection[Process]) -> list[Process]:
    alive = {(process.pid, process.started) for process in _processes()} if processes else set()
    return [process for process in processes if (process.pid, process.started) in alive]


def _processes() -> Iterator[Process]:
    """All processes of the machine but zombies, which only wait for somebody to read their exit code."""
    for folder in _PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            # The name, in parentheses, may hold anything; behind it: state, parent, group, session, ... (see proc(5)).
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] not in "ZX":
            yield Process(int(folder.name), int(fields[1]), int(fields[3]), int(fields[19]))


def _kilobytes(process: Process, file: str, key: str) -> int:
    """A number of /proc/PID/`file`; 0 when the process has ended."""
    try:
        lines = (_PROC / str(process.pid) / file).read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(key)), 0)
