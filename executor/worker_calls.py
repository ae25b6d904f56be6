"""What a program may ask of a worker by name (`collective_rpc`): plain data in, plain data out.

Nothing is pickled between processes, so a call names one of these functions; it cannot bring its own.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octavo import envs
from octavo.errors import ValidationError
from octavo.kernels import ops

if TYPE_CHECKING:
    from octavo.executor.worker import Worker


class Profiler:
    """One torch profile at a time, written as a trace that chrome://tracing and Perfetto read."""

    def __init__(self) -> None:
        self._profile: Any = None
        self._name = ""

    def start(self, prefix: str | None = None) -> None:
        """Begin.

        Raises:
            ValidationError: a profile is running already, or there is nowhere to write it.
        """
        if self._profile is not None:
            raise ValidationError("a profile is running already")
        if envs.PROFILER_DIR is None:
            raise ValidationError("profiles need a folder to be written to: set OCTAVO_PROFILER_DIR")
        from torch.profiler import ProfilerActivity, profile

        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if ops.current() == "triton" else [])]
        self._name = f"{_file_name(prefix)}-{os.getpid()}-{time.strftime('%Y%m%d-%H%M%S')}.json"
        self._profile = profile(activities=activities)
        self._profile.start()

    def stop(self) -> str:
        """End it; the trace's path.

        Raises:
            ValidationError: no profile is running.
        """
        if self._profile is None:
            raise ValidationError("no profile is running")
        running, self._profile = self._profile, None
        running.stop()
        path = Path(envs.PROFILER_DIR) / self._name
        path.parent.mkdir(parents=True, exist_ok=True)
        running.export_chrome_trace(str(path))
        return str(path)


def _file_name(prefix: str | None) -> str:
    """A prefix that stays within the folder."""
    kept = "".join(character for character in prefix or "" if character.isalnum() or character in "-_.")
    return kept.lstrip(".")[:64] or "octavo"


def describe(worker: Worker) -> dict[str, Any]:
    """What the worker runs, and on what."""
    config = worker.config
    return {
        "device": config.device.type,
        "kernels": ops.current(),
        "num_threads": config.device.num_threads,
        "architecture": config.model.architecture,
        "dtype": config.model.dtype,
        "quantization": config.model.quantization,
        "num_blocks": worker.kv_plan.num_blocks,
        "max_model_len": worker.max_model_len,
        "pid": os.getpid(),
    }


def memory(_worker: Worker) -> dict[str, int]:
    """Bytes of memory: resident now, and at most so far."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"resident_bytes": resident, "peak_bytes": max(peak, resident)}  # the two are counted differently


def start_profile(worker: Worker, prefix: str | None = None) -> None:
    worker.profiler.start(prefix)


def stop_profile(worker: Worker) -> str:
    return worker.profiler.stop()


WORKER_CALLS: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (describe, memory, start_profile, stop_profile)
}
