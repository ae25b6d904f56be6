"""Which plugins are installed, and how one is loaded by its name.

A package registers a plugin as an entry point whose value is a function without arguments; what that returns, when asked, is
the dotted name of the plugin's class, or None where the plugin is not available on this machine. The class itself and an entry
point that is the class are understood, too.
"""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from octavo import envs
from octavo.errors import ConfigError
from octavo.plugins import vllm_modules
from octavo.plugins.checks import problems
from octavo.plugins.io_processor import IOProcessor
from octavo.suggestions import did_you_mean

logger = logging.getLogger(__name__)

GROUP = "octavo.io_processor_plugins"
VLLM_GROUP = "vllm.io_processor_plugins"
"""Packages written for vLLM register here."""


@dataclass(frozen=True)
class Installed:
    """A plugin as its package registers it, not loaded."""

    entry: EntryPoint
    allowed: bool
    """OCTAVO_PLUGINS does not leave it out."""

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def package(self) -> str:
        """Distribution and version."""
        found = self.entry.dist
        return f"{found.name} {found.version}" if found is not None else ""


def installed() -> dict[str, Installed]:
    """All plugins by name; Octavo's own group goes before vLLM's."""
    allowed = envs.PLUGINS
    entries = [*entry_points(group=VLLM_GROUP), *entry_points(group=GROUP)]
    return {entry.name: Installed(entry, allowed is None or entry.name in allowed) for entry in entries}


def is_for_vllm(name: str) -> bool:
    """Whether a plugin's package was written for vLLM, and registers with it."""
    return installed()[name].entry.group == VLLM_GROUP


def check_installed(names: Sequence[str]) -> None:
    """Look whether plugins are there, without loading them.

    Raises:
        ConfigError: naming the one that is missing, and what there is.
    """
    known = installed() if names else {}
    for name in names:
        if name not in known:
            raise _missing(name, known)
        if not known[name].allowed:
            raise ConfigError(f"the IO Processor plugin {name!r} is left out by {envs.source('PLUGINS')}")


def _missing(name: str, known: dict[str, Installed]) -> ConfigError:
    if not known:
        return ConfigError(f"No IOProcessor plugins installed but one is required ({name}).")
    return ConfigError(
        f"The model requires the {name!r} IO Processor plugin but it is not installed{did_you_mean(name, known)}. "
        f"Available plugins: {sorted(known)}"
    )


def load(name: str) -> type[IOProcessor[Any, Any]]:
    """The class of an installed plugin; runs its package's code.

    Raises:
        ConfigError: it is not there, not available, cannot be imported, or is no plugin.
    """
    check_installed([name])
    vllm_modules.provide()
    found = installed()[name]
    try:
        target = _resolved(found.entry.load())
    except Exception as error:
        logger.debug("loading the plugin %s failed", name, exc_info=True)
        raise ConfigError(
            f"the IO Processor plugin {name!r} ({found.package}) cannot be loaded: {type(error).__name__}: {error}"
            + vllm_modules.explain(error)
        ) from error
    if target is None:
        raise ConfigError(f"the IO Processor plugin {name!r} ({found.package}) says that it is not available here")
    if not inspect.isclass(target):
        raise ConfigError(f"the IO Processor plugin {name!r} ({found.package}) is no class: {target!r}")
    wrong = problems(target)
    if wrong:
        raise ConfigError(f"the IO Processor plugin {name!r} ({found.package}) cannot serve: {'; '.join(wrong)}")
    return cast("type[IOProcessor[Any, Any]]", target)


def _resolved(target: Any) -> Any:
    """What an entry point's value stands for: itself, or what it returns; a text is the dotted name of either."""
    if callable(target) and not inspect.isclass(target):
        target = target()
    if not isinstance(target, str):
        return target
    module, _, attribute = target.replace(":", ".").rpartition(".")
    return getattr(importlib.import_module(module), attribute)
