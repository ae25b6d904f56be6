"""The registry of architectures under vLLM's name."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any, NoReturn

from octavo.sources.hf_config import ARCHITECTURE_PLUGINS, known_architectures


class _ModelRegistry:
    """Tells which architectures there are. The engine's core is another process, so what a program registered here at run
    time would not reach it: a package brings its architectures by entry point.
    """

    def get_supported_archs(self) -> AbstractSet[str]:
        """Names as in config.json's `architectures`, plugins' included."""
        return set(known_architectures())

    def register_model(self, model_arch: str, model_cls: Any) -> NoReturn:
        """Raises: ValueError: says how an architecture is added."""
        raise ValueError(
            f"{model_arch} cannot be registered at run time (as {model_cls!r}): the engine's core is another process; "
            f"give the package that holds it an entry point in the group {ARCHITECTURE_PLUGINS!r}, as docs/adding-a-model.md shows"
        )


ModelRegistry = _ModelRegistry()
