"""The page that docs/adding-a-model.md shows is a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from parity import tiny_hf
from parity.paged import PagedSequences, load

from octavo.executor.models import registry
from octavo.sources import hf_config

DOCS = Path(__file__).parents[3] / "docs" / "adding-a-model.md"


def test_it_gives_the_tokens_of_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(hf_config, "_registered", set())
    [source] = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(source, names)
    registry.register("MyModelForCausalLM", names["MyModel"])
    reference = tiny_hf.make(tmp_path, "Qwen3ForCausalLM", head_dim=16)
    prompt = tiny_hf.token_ids(11)
    model = load(tmp_path, hf_overrides={"architectures": ["MyModelForCausalLM"]})
    assert PagedSequences(model).greedy("a", prompt, 16) == tiny_hf.greedy(reference, prompt, 16)
