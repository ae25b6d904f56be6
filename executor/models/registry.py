"""Which architecture is built by what.

A plugin adds one with an entry point in the group `octavo.models`, named like the architecture in config.json and
pointing to a factory; a program adds one with `register`. Either may replace a built-in one.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points

import torch

from octavo.config import EngineConfig
from octavo.errors import ConfigError
from octavo.executor.models import architectures
from octavo.executor.models.decoder import DecoderModel
from octavo.executor.models.options import DecoderOptions, HfConfig
from octavo.sources.hf_config import ARCHITECTURE_PLUGINS, add_architecture, known_architectures

Factory = Callable[[EngineConfig, torch.device], DecoderModel]
"""Builds a model with uninitialized weights for the loader to fill."""


def decoder(describe: Callable[[HfConfig], DecoderOptions]) -> Factory:
    """Factory of a decoder that differs from others in its options only.

    Args:
        describe: config.json (its text_config where it has one) -> options.

    """

    def build(config: EngineConfig, device: torch.device) -> DecoderModel:
        hf_config = config.model.hf_config
        return DecoderModel(describe(hf_config.get("text_config") or hf_config), config.model, device)

    return build


_registry: dict[str, Factory] = {
    "LlamaForCausalLM": decoder(architectures.llama),
    "MistralForCausalLM": decoder(architectures.mistral),
    "Qwen2ForCausalLM": decoder(architectures.qwen2),
    "Qwen3ForCausalLM": decoder(architectures.qwen3),
    "Phi3ForCausalLM": decoder(architectures.phi3),
    "GemmaForCausalLM": decoder(architectures.gemma),
    "Gemma2ForCausalLM": decoder(architectures.gemma2),
    "Gemma3ForCausalLM": decoder(architectures.gemma3),
    "GraniteForCausalLM": decoder(architectures.granite),
    "SmolLM3ForCausalLM": decoder(architectures.smollm3),
    "Olmo2ForCausalLM": decoder(architectures.olmo2),
}


def register(name: str, factory: Factory) -> None:
    """Add an architecture, or replace one.

    Args:
        name: as in config.json's `architectures`.
        factory: see `decoder` for one made from a description.

    """
    _registry[name] = factory
    add_architecture(name)


def build_model(config: EngineConfig, device: torch.device) -> DecoderModel:
    """The model that config.json names, weights uninitialized.

    Raises:
        ConfigError: nothing is registered for the architecture; names those that are.

    """
    name = config.model.architecture
    for entry in entry_points(group=ARCHITECTURE_PLUGINS, name=name):
        register(name, entry.load())
    if name not in _registry:
        raise ConfigError(
            f"architecture {name!r} of model {config.model.name!r} is not supported; known are {', '.join(known_architectures())}"
        )
    return _registry[name](config, device)
