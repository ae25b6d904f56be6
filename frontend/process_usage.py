"""What another process uses, as the system counts it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class ProcessUsage(NamedTuple):
    """Memory in bytes and processor time (user and system) in seconds since the process began."""

    resident_bytes: int
    cpu_seconds: float


def process_usage(pid: int) -> ProcessUsage | None:
    """What the process uses; None where it is gone, or the system has no /proc."""
    folder = Path("/proc") / str(pid)
    try:
        pages = int((folder / "statm").read_text().split()[1])
        # Behind the command's name, which may hold blanks: state, ten other fields, then the times.
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    ticks = int(fields[11]) + int(fields[12])
    return ProcessUsage(pages * os.sysconf("SC_PAGE_SIZE"), ticks / os.sysconf("SC_CLK_TCK"))
