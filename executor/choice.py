"""Which executor runs the steps, imported only when it is known."""

from __future__ import annotations

import importlib

from octavo.config import EngineConfig
from octavo.executor.base import Executor


def import_ahead() -> None:
    """Import what any executor in this process will need, so that a core can do it before it knows its configuration."""
    from octavo.executor.import_torch import import_torch

    import_torch()
    importlib.import_module("octavo.executor.worker")
    importlib.import_module("octavo.executor.loader")


def make_executor(config: EngineConfig) -> Executor:
    """The executor that `config.device.executor` names, imported only now."""
    from octavo.executor.uniproc import UniprocExecutor

    return UniprocExecutor(config)
