"""What was measured, when and where: the facts beneath a bench's picture, without which its numbers mean little."""

from __future__ import annotations

import html
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from octavo.available_memory import read_system_file
from octavo.config.machine import available_cpus
from octavo.version import __version__

_SECRET = ("--api-key", "--header", "--hf-token")


def circumstances(words: Sequence[str] | None = None) -> dict[str, str]:
    """Date, version, machine and command line of this run.

    Args:
        words: the command line; None = the process's own.
    """
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "measured with": f"Octavo {__version__}, Python {platform.python_version()}",
        "machine": machine(),
        "command line": command_line(sys.argv if words is None else words),
    }


def machine() -> str:
    """Processor, how many of it this process may use, memory, system."""
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = [int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal:")]
    parts = [names[0] if names else platform.machine(), f"{available_cpus()} of {os.cpu_count()} processors"]
    parts += [f"{kib / (1 << 20):.1f} GiB of memory" for kib in memory]
    return ", ".join([*parts, f"{platform.system()} {platform.release()}"])


def _lines(path: str) -> list[str]:
    return read_system_file(path).splitlines()


def command_line(words: Sequence[str]) -> str:
    """The words as a shell takes them; a page that is passed on holds no keys."""
    shown, hide = [Path(words[0]).name] if words else [], False
    for word in words[1:]:
        flag, equals, _ = word.partition("=")
        secret = flag.replace("_", "-") in _SECRET
        shown.append(f"{flag}=..." if secret and equals else "..." if hide and not word.startswith("--") else word)
        hide = (secret and not equals) or (hide and not word.startswith("--"))
    return " ".join(word if word.endswith("...") else shlex.quote(word) for word in shown)


def facts_table(facts: Mapping[str, str]) -> str:
    """The facts as an HTML table."""
    rows = (f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(text)}</td></tr>' for name, text in facts.items())
    return f'<h2>What was measured</h2><table class="facts">{"".join(rows)}</table>'
