"""What ended a core process: itself, or somebody outside."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import NamedTuple

_CGROUPS = Path("/sys/fs/cgroup")
_FAULTS = {
    signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP, signal.SIGXCPU,
    signal.SIGXFSZ,
}  # fmt: skip
"""Signals that a process gets for what it does."""


class Death(NamedTuple):
    """The end of a core."""

    reason: str
    from_outside: bool
    """Somebody sent it a signal, the operator or another program: no request is to blame."""


class OomKills:
    """Tells whether the kernel has killed for want of memory: its SIGKILL looks like anybody's."""

    def __init__(self) -> None:
        self._seen = _count_oom_kills()

    def happened(self) -> bool:
        """Whether it has since the last time."""
        before, self._seen = self._seen, _count_oom_kills()
        return self._seen > before


def judge(reason: str, exit_code: int | None, failure: str | None, oom_kills: OomKills) -> Death:
    """Who ended a core.

    Args:
        reason: words for what happened.
        exit_code: as subprocess has it; None = the process still runs, but nobody hears from it.
        failure: what the core itself said of its end.
    """
    out_of_memory = oom_kills.happened()
    if failure is not None:
        return Death(reason, False)
    if exit_code == -signal.SIGKILL and out_of_memory:
        return Death(f"{reason}, for want of memory as it seems", False)
    return Death(reason, exit_code is None or exit_code == 0 or (exit_code < 0 and -exit_code not in _FAULTS))


def _count_oom_kills() -> int:
    """Of this process's control group, or of the whole machine where no group counts them; 0 where nobody does."""
    for path in (*_groups(), Path("/proc/vmstat")):
        for line in _read(path).splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill":
                return int(number)
    return 0


def _groups() -> list[Path]:
    """Where version 2 of the control groups counts; in a container the path may be the host's, and the root is its own group."""
    paths = [line[3:] for line in _read(Path("/proc/self/cgroup")).splitlines() if line.startswith("0::")]
    return [folder / "memory.events" for path in paths for folder in (_CGROUPS / path.lstrip("/"), _CGROUPS)]


def _read(path: Path) -> str:
    """The file's text, "" where there is no such file: not every system has these."""
    try:
        return path.read_text()
    except OSError:
        return ""
