"""Sliding windows of each layer, as config.json of the architectures that come with Octavo has them.

They decide what the KV cache holds, which is checked before anything that computes is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

HfConfig = Mapping[str, Any]
"""A checked config.json, or its text_config."""


def layer_windows(config: HfConfig, architecture: str) -> tuple[int, ...]:
    """Keys that a query of each layer sees, itself included; 0 = all.

    Args:
        config: as transformers writes it; its layer_types, where given, say which layers slide.
        architecture: one that comes with Octavo.
    """
    layers = config["num_hidden_layers"]
    if architecture not in SLIDING:
        return (0,) * layers
    window = {"sliding_window": _DEFAULT_WINDOW.get(architecture, 0), **config}["sliding_window"] or 0
    uses, slides = SLIDING[architecture]
    if not uses(config):
        return (0,) * layers
    types = config.get("layer_types")
    sliding = [kind == "sliding_attention" for kind in types] if types else [slides(config, i) for i in range(layers)]
    return tuple(window if slid else 0 for slid in sliding)


def rotated_layers(config: HfConfig) -> list[bool]:
    """Which layers of a SmolLM 3 have a position embedding: the others are those that may slide."""
    layers, every = config["num_hidden_layers"], _given(config, "no_rope_layer_interval", 4)
    return [bool(uses) for uses in config.get("no_rope_layers") or [(i + 1) % every != 0 for i in range(layers)]]


def _given(config: HfConfig, key: str, default: int) -> int:
    value = config.get(key)
    return default if value is None else int(value)


def _always(_config: HfConfig) -> bool:
    return True


def _if_asked(config: HfConfig) -> bool:
    return bool(config.get("use_sliding_window"))


def _all_layers(_config: HfConfig, _layer: int) -> bool:
    return True


def _from_first(config: HfConfig, layer: int) -> bool:
    return layer >= _given(config, "max_window_layers", 28)


def _every_other(_config: HfConfig, layer: int) -> bool:
    return layer % 2 == 0


def _local(config: HfConfig, layer: int) -> bool:
    return (layer + 1) % int(config.get("sliding_window_pattern") or 6) != 0


def _not_rotated(config: HfConfig, layer: int) -> bool:
    return _if_asked(config) and not rotated_layers(config)[layer]


_DEFAULT_WINDOW = {"MistralForCausalLM": 4096, "Gemma2ForCausalLM": 4096, "Gemma3ForCausalLM": 4096}
"""Where config.json does not say."""

SLIDING: dict[str, tuple[Callable[[HfConfig], bool], Callable[[HfConfig, int], bool]]] = {
    "MistralForCausalLM": (_always, _all_layers),
    "MixtralForCausalLM": (_always, _all_layers),
    "Phi3ForCausalLM": (_always, _all_layers),
    "Qwen2ForCausalLM": (_if_asked, _from_first),
    "Qwen3ForCausalLM": (_if_asked, _from_first),
    "Gemma2ForCausalLM": (_always, _every_other),
    "Gemma3ForCausalLM": (_always, _local),
    "SmolLM3ForCausalLM": (_always, _not_rotated),
}
"""Whether there are windows at all, and which layers have them where layer_types does not say."""
