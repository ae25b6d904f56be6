"""Every environment variable Octavo reads, in one table.

`envs.CACHE_DIR` reads the variable when it is used, so tests and embedding programs may set it late. A value that cannot
be parsed is an error that names the variable, never silently the default.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.errors import ConfigError

PREFIX = "OCTAVO_"
_MOST_SECONDS = 1e9
MOST_THREADS = 4096


@dataclass(frozen=True)
class EnvVar:
    """One variable: how to parse it, its default, what it is for, and vLLM's names for it, which are read where it is unset."""

    parse: Callable[[str], Any]
    default: Callable[[], Any]
    doc: str
    others: tuple[str, ...] = ()


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "octavo"


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"allowed values are {', '.join(allowed)}")
        return text

    return parse


def _level(text: str) -> str:
    return _choice("debug", "info", "warning", "error")("error" if text.lower() == "critical" else text.lower())


def _flag(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("allowed values are 0 and 1")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= _MOST_SECONDS:
        raise ValueError(f"allowed are 0 to {_MOST_SECONDS:g} seconds")
    return seconds


def _threads(text: str) -> int:
    number = int(text)
    if not 1 <= number <= MOST_THREADS:
        raise ValueError(f"allowed are 1 to {MOST_THREADS} threads")
    return number


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _folder(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("the path of a folder is needed")
    return Path(text)


TABLE: dict[str, EnvVar] = {
    "API_KEY": EnvVar(str, lambda: None, "Key that clients must send (same as --api-key).", ("VLLM_API_KEY",)),
    "CACHE_DIR": EnvVar(_folder, _cache_home, "Where downloaded and converted files are kept."),
    "CHECK_OPS": EnvVar(
        _flag, lambda: False, "Run every op natively and by the reference, and name the first that differs (very slow)."
    ),
    "CPU_ISA": EnvVar(
        _choice("portable", "avx2", "avx512", "avx512_bf16", "amx"),
        lambda: None,
        "Instruction set of the native CPU kernels; unset = the best this processor has.",
    ),
    "KERNELS": EnvVar(_choice("reference", "cpu", "triton"), lambda: None, "Force a kernel set; unset = the best that runs."),
    "LOG_FORMAT": EnvVar(
        _choice("text", "json"), lambda: "text", "Form of log lines: text, or one JSON object a line (same as --log-format)."
    ),
    "LOG_LEVEL": EnvVar(
        _level,
        lambda: "info",
        "Level of Octavo's loggers: debug, info, warning or error (same as --log-level).",
        ("VLLM_LOGGING_LEVEL",),
    ),
    "LOG_STATS_INTERVAL": EnvVar(
        _seconds, lambda: 10.0, "Seconds between two lines of statistics in the log.", ("VLLM_LOG_STATS_INTERVAL",)
    ),
    "NUM_THREADS": EnvVar(_threads, lambda: None, "Compute threads; unset = the processors this process may use."),
    "OFFLINE": EnvVar(_flag, lambda: False, "1 = never ask the model hub or a package index."),
    "PLUGINS": EnvVar(
        _names,
        lambda: None,
        "Names of the IO Processor plugins that may be loaded, with commas between; unset = all that are installed.",
        ("VLLM_PLUGINS",),
    ),
    "PROFILER_DIR": EnvVar(
        _folder, lambda: None, "Folder for the traces of /start_profile; unset = no profiles.", ("VLLM_TORCH_PROFILER_DIR",)
    ),
    "SERVER_DEV_MODE": EnvVar(
        _flag,
        lambda: False,
        "1 = the server also answers /sleep, /pause, /collective_rpc and the like.",
        ("VLLM_SERVER_DEV_MODE",),
    ),
    "START_TIMEOUT": EnvVar(
        _seconds, lambda: 600.0, "Seconds the engine core may take to become ready.", ("VLLM_ENGINE_READY_TIMEOUT_S",)
    ),
    "STEP_TIMEOUT": EnvVar(
        _seconds,
        lambda: 300.0,
        "Seconds in which no step of the engine ends, with work running, before /livez fails.",
        ("VLLM_ENGINE_ITERATION_TIMEOUT_S", "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS"),
    ),
}


def get(name: str) -> Any:
    """Value of `OCTAVO_<name>`, or else of vLLM's name for it, parsed, or its default.

    Raises:
        ConfigError: the variable is set to something that cannot be parsed.
    """
    entry = TABLE[name]
    variable = source(name)
    text = os.environ.get(variable)
    if text is None:
        return entry.default()
    try:
        return entry.parse(text)
    except ValueError as error:
        raise ConfigError(f"environment variable {variable}={text!r}: {error}") from None


def source(name: str) -> str:
    """The variable that `get` reads: the first that is set, or `OCTAVO_<name>`."""
    return next((variable for variable in (PREFIX + name, *TABLE[name].others) if variable in os.environ), PREFIX + name)


def check() -> None:
    """Parse every variable that is set: one that is read late must not fail late.

    Raises:
        ConfigError: naming the first that cannot be parsed.
    """
    for name in TABLE:
        get(name)


def __getattr__(name: str) -> Any:
    if name in TABLE:
        return get(name)
    raise AttributeError(name)
