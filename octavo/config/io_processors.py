"""Which IO Processor plugins a configuration asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from octavo.checked import shown
from octavo.config.options import EngineOptions
from octavo.config.sizes import parse_bytes
from octavo.config.structs import IOProcessorConfig
from octavo.errors import ConfigError
from octavo.sources.hf_config import with_overrides
from octavo.sources.model_source import ModelFiles

_FIELD = "io_processor_plugin"


def io_processor_config(options: EngineOptions, files: ModelFiles) -> IOProcessorConfig:
    """The options about plugins; which ones, the options say before the model's config.json does.

    Raises:
        ConfigError: what config.json says is no name.
    """
    config = with_overrides(files.config, options.hf_overrides)
    asked = options.io_processor_plugin
    return IOProcessorConfig(
        plugins=names_of(config.get(_FIELD), files.config_file) if asked is None else names_of(asked, "--io-processor-plugin"),
        workers=options.io_processor_workers,
        timeout=options.io_processor_timeout,
        memory_bytes=parse_bytes(options.io_processor_memory, "--io-processor-memory") or 0,
        max_prompts=options.io_processor_max_prompts,
    )


def names_of(value: Any, where: str) -> tuple[str, ...]:
    """The plugins that "a, b" or ["a", "b"] names; () for None and "".

    Raises:
        ConfigError: neither a text nor a list of texts.
    """
    parts = value.split(",") if isinstance(value, str) else value or []
    if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
        raise ConfigError(f"{where}: {_FIELD} must be a name, or several with commas between, got {shown(value)}")
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
