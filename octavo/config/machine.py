"""What this machine has: processors that may be used, bfloat16, CUDA."""

from __future__ import annotations

import os
from pathlib import Path

from octavo import envs


def available_cpus() -> int:
    """Processors this process may use: OCTAVO_NUM_THREADS, else the affinity mask, cut by the cgroup's CPU quota."""
    if envs.NUM_THREADS:
        return int(envs.NUM_THREADS)
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(count, int(quota)) if quota else count)


def _cgroup_quota() -> float | None:
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if limit == "max" else float(limit) / float(period)
    except (OSError, ValueError):
        return None


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 natively, with the instruction set that OCTAVO_CPU_ISA names if it does."""
    if envs.CPU_ISA:
        return envs.CPU_ISA in ("avx512_bf16", "amx")
    flags = _cpu_flags()
    return "avx512_bf16" in flags or "amx_bf16" in flags or " bf16" in flags


def cpu_has_tiles() -> bool:
    """Whether it does so with matrix tiles: only then are products of many rows faster than in float32."""
    return envs.CPU_ISA == "amx" if envs.CPU_ISA else "amx_bf16" in _cpu_flags()


def _cpu_flags() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def torch_sees_cuda() -> bool:
    """Whether there is a GPU that torch can use."""
    import torch

    return torch.cuda.is_available()
