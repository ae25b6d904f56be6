"""vLLM's paths of what is here under another: each module of this package forwards, when it is used, by one table."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

COMMANDS: dict[str, str] = {
    "octavo.entrypoints.api_server": "serve",
    "octavo.entrypoints.openai.api_server": "serve",
}
"""Modules to run with `python -m`, and the command of `octavo` that each is."""

HOMES: dict[str, dict[str, str]] = {
    "octavo.entrypoints.llm": {"LLM": "octavo.frontend.llm"},
}
"""Names of modules, and the modules that define them."""


def run(module: str) -> int:
    """Be the command that a module stands for, with the words behind `python -m module`; returns the exit code."""
    main = importlib.import_module("octavo.frontend.cli.main").main
    return int(main([COMMANDS[module], *sys.argv[1:]]))


def forward(module: str) -> Callable[[str], Any]:
    """A module's `__getattr__`."""

    def get(name: str) -> Any:
        home = HOMES.get(module, {}).get(name)
        if home is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return getattr(importlib.import_module(home), name)

    return get
