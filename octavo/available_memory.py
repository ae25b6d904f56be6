"""How much of this machine's memory a process could still take."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")


def available_host_bytes() -> int:
    """Memory this process could still take, within the limits of its cgroups."""
    return max(0, min([_host_available(), *_cgroup_headrooms()]))


def _host_available() -> int:
    """Linux's own estimate, page cache that can be dropped included; elsewhere what is free or simply there."""
    for line in read_system_file("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    name = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")


def _cgroup_headrooms() -> list[int]:
    """What each limited cgroup above this process still allows (version 2, and the memory controller of version 1)."""
    headrooms = []
    for line in read_system_file("/proc/self/cgroup").splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0":
            names, root = ("memory.max", "memory.current", "inactive_file"), _CGROUP_ROOT
        elif "memory" in controllers.split(","):
            names, root = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"), _CGROUP_ROOT / "memory"
        else:
            continue
        folder = root / path.lstrip("/")
        # In a container the path may be the host's; the root then is the container's own group.
        headrooms += [_headroom(group, *names) for group in (folder, *folder.parents) if group.is_relative_to(root)]
    return [room for room in headrooms if room is not None]


def _headroom(group: Path, limit_name: str, usage_name: str, cache_name: str) -> int | None:
    limit, usage = read_system_file(group / limit_name).strip(), read_system_file(group / usage_name).strip()
    if not limit.isdecimal() or not usage.isdecimal():
        return None
    droppable = [
        int(line.split()[1]) for line in read_system_file(group / "memory.stat").splitlines() if line.split()[0] == cache_name
    ]
    return int(limit) - int(usage) + sum(droppable)


def read_system_file(path: str | Path) -> str:
    """The file's text, "" where there is no such file: not every system has these."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""
