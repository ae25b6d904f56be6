"""A plugin, made from its name and the configuration."""

from __future__ import annotations

import threading
from typing import Any

from octavo.config import EngineConfig
from octavo.errors import ConfigError, OctavoError
from octavo.plugins.config_view import vllm_config
from octavo.plugins.discovery import is_for_vllm, load
from octavo.plugins.generations import PluginCalls, make_plugin
from octavo.plugins.renderer import Renderer

_one_at_a_time = threading.Lock()
"""Large libraries, transformers above all, are not imported by two threads at a time without harm."""


def calls_of(name: str, config: EngineConfig) -> PluginCalls:
    """An installed plugin, ready to be called.

    Raises:
        ConfigError: it cannot be loaded, or its constructor raises.
    """
    view = vllm_config(config)
    with _one_at_a_time:
        cls = load(name)
        try:
            plugin = make_plugin(cls, view, Renderer(view, lambda: _tokenizer(config)))
        except OctavoError:
            raise
        except Exception as error:
            raise ConfigError(f"the IO Processor plugin {name!r} cannot be made: {type(error).__name__}: {error}") from error
        return PluginCalls(name, plugin, config.io_processor.max_prompts, tensors=is_for_vllm(name))


def _tokenizer(config: EngineConfig) -> Any:
    if config.model.skip_tokenizer_init:
        return None
    from octavo.frontend.hf_tokenizer import load_hf_tokenizer

    return load_hf_tokenizer(config.model)
