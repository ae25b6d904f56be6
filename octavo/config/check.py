"""What can be checked of the options before the model's files are found."""

from __future__ import annotations

import dataclasses
from typing import Any

from octavo import envs
from octavo.checked import shown
from octavo.config import early_checks
from octavo.config.foreign_args import own_value
from octavo.config.option import flag_name
from octavo.config.options import EngineOptions
from octavo.config.sizes import parse_bytes, parse_length
from octavo.config.template_file import read_template
from octavo.errors import ConfigError


def check(options: EngineOptions) -> None:
    """What can be known before the model's files are.

    Raises:
        ConfigError: naming the flag to change.
    """
    for field in dataclasses.fields(options):
        _check_field(field, getattr(options, field.name))
    _check_others(options)
    envs.check()
    early_checks.check_device(options.device)
    if options.chat_template is not None:
        read_template(options.chat_template)
    early_checks.check_generation_config(options.generation_config)
    early_checks.check_folders(options.download_dir)


def _check_field(field: dataclasses.Field[Any], value: Any) -> None:
    """One option against the choices and limits in its field."""
    said = field.metadata
    flag = flag_name(field.name)
    if value is None:
        return
    if said["choices"] and value not in said["choices"]:
        own_value(field.name, value)  # has better words for a value of vLLM's
        raise ConfigError(f"{flag} must be one of {', '.join(said['choices'])}, got {value!r}")
    if said["low"] is not None and not value >= said["low"]:  # NaN, too
        raise ConfigError(f"{flag} must be at least {said['low']}, got {value}")
    if said["low"] is not None and value > said["high"]:
        raise ConfigError(f"{flag} must be at most {said['high']}, got {shown(value)}")


def _check_others(options: EngineOptions) -> None:
    """What a field's limits do not say."""
    share = options.gpu_memory_utilization
    if share is not None and not 0.0 < share <= 1.0:
        raise ConfigError(f"--gpu-memory-utilization must be in (0, 1], got {share}")
    if not isinstance(options.hf_overrides, dict):
        kind = type(options.hf_overrides).__name__
        raise ConfigError(f"--hf-overrides must be an object that is merged into config.json, got a {kind}")
    for name in options.served_model_name:
        if not name.strip() or not name.isprintable():
            raise ConfigError(f"--served-model-name must be names of printable characters, got {shown(name)}")
    parse_length(options.max_model_len)
    parse_bytes(options.io_processor_memory, "--io-processor-memory")
    parse_bytes(options.kv_cache_memory_bytes)
