"""Finding an architecture: built in, registered, from a plugin, or not at all."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
import torch
from parity import tiny_hf
from parity.paged import PagedSequences, engine_config, load

from octavo.errors import ConfigError
from octavo.executor.models import registry
from octavo.executor.models.llama import Llama
from octavo.sources import hf_config
from octavo.sources.encoders import ENCODERS


class Doubled(Llama):
    """Llama with twice the logits."""

    logit_scale = 2.0


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(hf_config, "_registered", set())


def test_the_names_known_without_importing_models_are_those_there_are() -> None:
    assert sorted(registry.ARCHITECTURES) == sorted([*hf_config.BUILT_IN, *ENCODERS])


def renamed(folder: Path, name: str) -> dict[str, Any]:
    """Engine arguments that give a model's architecture another name."""
    return {"path": folder, "hf_overrides": {"architectures": [name]}}


def test_unknown_architecture_lists_the_known(tmp_path: Path) -> None:
    tiny_hf.make(tmp_path, "LlamaForCausalLM", num_hidden_layers=1)
    with pytest.raises(ConfigError, match=r"'MambaForCausalLM'.*Gemma2ForCausalLM, .*LlamaForCausalLM.*Qwen3ForCausalLM"):
        load(**renamed(tmp_path, "MambaForCausalLM"))


def test_registering_takes_one_page(tmp_path: Path) -> None:
    reference = tiny_hf.make(tmp_path, "LlamaForCausalLM", num_hidden_layers=1)
    registry.register("DoubledForCausalLM", Doubled)
    ids = tiny_hf.token_ids(9)
    ours = PagedSequences(load(**renamed(tmp_path, "DoubledForCausalLM"))).logits("a", ids)
    assert tiny_hf.difference(ours, 2 * tiny_hf.logits(reference, ids)) < 2e-5


def test_plugins_add_architectures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_hf.make(tmp_path, "LlamaForCausalLM", num_hidden_layers=1)
    entry = EntryPoint("PluginForCausalLM", f"{__name__}:Doubled", hf_config.ARCHITECTURE_PLUGINS)
    monkeypatch.setattr(EntryPoint, "load", lambda _: Doubled)
    for module in (registry, hf_config):
        monkeypatch.setattr(module, "entry_points", lambda **wanted: EntryPoints([entry]).select(**wanted))
    assert "PluginForCausalLM" in hf_config.known_architectures()
    model = registry.build_model(
        engine_config(tmp_path, hf_overrides={"architectures": ["PluginForCausalLM"]}), torch.device("cpu")
    )
    assert len(model.layers) == 1
