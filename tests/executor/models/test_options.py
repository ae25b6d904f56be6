"""config.json in its old and its new spelling describes the same model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from octavo.config.resolve import model_context_length
from octavo.errors import ConfigError
from octavo.executor.layers.linear import Placement
from octavo.executor.layers.rotary import cos_sin_table
from octavo.executor.models.build import Build
from octavo.executor.models.causal_lm import CausalLM
from octavo.executor.models.registry import Keys, built_in
from octavo.sources.rope import rope_parameters

BASE: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "sliding_window": 16,
}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}


def built(architecture: str, config: dict[str, Any]) -> CausalLM:
    """A model without weights in it."""
    return built_in(architecture)(Keys(config), Build(Placement(torch.float32, torch.device("cpu")), 64))


def windows_of(model: CausalLM) -> tuple[int, ...]:
    return tuple(layer.attention.shape.window for layer in model.layers)


def test_rope_scaling_equals_rope_parameters() -> None:
    old = BASE | {"rope_theta": 5e5, "rope_scaling": LLAMA3 | {"rope_type": "llama3"}}
    oldest = BASE | {"rope_theta": 5e5, "rope_scaling": LLAMA3 | {"type": "llama3", "rope_type": "llama3"}}
    new = BASE | {"rope_parameters": LLAMA3 | {"rope_type": "llama3", "rope_theta": 5e5}}
    expected = cos_sin_table(rope_parameters(new), 8, 64)
    for config in (old, oldest):
        assert torch.equal(cos_sin_table(rope_parameters(config), 8, 64), expected)
    assert not torch.equal(cos_sin_table(rope_parameters(BASE | {"rope_theta": 5e5}), 8, 64), expected)


def test_type_is_an_old_name_of_rope_type() -> None:
    rope = rope_parameters(BASE | {"rope_scaling": {"type": "su", "short_factor": [1.0], "long_factor": [2.0]}})
    assert rope["rope_type"] == "longrope"
    assert rope["rope_theta"] == 10000.0


def test_original_length_may_stand_outside() -> None:
    rope = rope_parameters(BASE | {"original_max_position_embeddings": 16, "rope_scaling": {"type": "yarn", "factor": 4.0}})
    assert rope["original_max_position_embeddings"] == 16


def test_gemma3_old_and_new() -> None:
    layers = ["sliding_attention"] * 5 + ["full_attention"]
    old = BASE | {
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "sliding_window_pattern": 6,
    }
    new = BASE | {
        "layer_types": layers,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        },
    }
    first, second = built("Gemma3ForCausalLM", old), built("Gemma3ForCausalLM", new)
    assert windows_of(first) == windows_of(second) == (16, 16, 16, 16, 16, 0)
    for a, b in zip(first.layers, second.layers, strict=True):
        assert torch.equal(a.attention.cos_sin, b.attention.cos_sin)
        assert a.attention.shape.qk_norm == "head"
        assert a.attention.shape.soft_cap == 0.0
    assert first.logit_soft_cap == 0.0


@pytest.mark.parametrize(
    ("architecture", "config", "windows"),
    [
        ("LlamaForCausalLM", {}, (0,) * 6),
        ("MistralForCausalLM", {}, (16,) * 6),
        ("MistralForCausalLM", {"sliding_window": None}, (0,) * 6),
        ("Qwen2ForCausalLM", {}, (0,) * 6),
        ("Qwen2ForCausalLM", {"use_sliding_window": True, "max_window_layers": 4}, (0, 0, 0, 0, 16, 16)),
        ("Gemma2ForCausalLM", {}, (16, 0, 16, 0, 16, 0)),
        ("Gemma2ForCausalLM", {"layer_types": ["full_attention"] * 5 + ["sliding_attention"]}, (0, 0, 0, 0, 0, 16)),
    ],
)
def test_windows(architecture: str, config: dict[str, Any], windows: tuple[int, ...]) -> None:
    assert windows_of(built(architecture, BASE | config)) == windows


def test_no_position_embedding_rotates_nothing() -> None:
    table = cos_sin_table(None, 8, 5)
    assert torch.equal(table, torch.tensor([[1.0, 0.0]] * 5))


def test_unknown_scaling_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="'spiral' is not one of default, linear"):
        cos_sin_table(rope_parameters(BASE | {"rope_scaling": {"rope_type": "spiral"}}), 8, 64)


def test_missing_scaling_parameter_is_named() -> None:
    with pytest.raises(ConfigError, match="'linear' needs the parameter 'factor'"):
        cos_sin_table(rope_parameters(BASE | {"rope_scaling": {"rope_type": "linear"}}), 8, 64)


def test_missing_size_is_named() -> None:
    with pytest.raises(ConfigError, match="lacks 'intermediate_size'"):
        built("LlamaForCausalLM", {key: value for key, value in BASE.items() if key != "intermediate_size"})


def test_unknown_activation_is_refused() -> None:
    from octavo.executor.layers.mlp import GatedMLP

    with pytest.raises(ConfigError, match="activation 'relu6' is not one of silu"):
        GatedMLP("mlp", 8, 16, "relu6", False, False, Placement(torch.float32, torch.device("cpu")))


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({}, 64),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, 128),
        ({"rope_scaling": {"type": "dynamic", "factor": 3.0}}, 192),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}}, 256),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}}, 64),
        ({"rope_parameters": LLAMA3 | {"rope_type": "llama3"}}, 64),
        (
            {
                "rope_parameters": {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [2.0]},
                "original_max_position_embeddings": 16,
            },
            64,
        ),
        # Gemma 3's factor is already in max_position_embeddings.
        ({"model_type": "gemma3_text", "rope_scaling": {"rope_type": "linear", "factor": 8.0}}, 64),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}}}, 64),
    ],
)
def test_context_length(config: dict[str, Any], length: int) -> None:
    assert model_context_length(BASE | config) == length
