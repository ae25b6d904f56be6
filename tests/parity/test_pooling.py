"""Ways of pooling, and what sentence-transformers folders say of them, in both of their layouts; by a definition written down here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import tiny_hf
from parity.pooled import PoolingModel
from safetensors.torch import save_file

from octavo.errors import ConfigError, ValidationError
from octavo.pooling_params import PoolingParams

TEXTS = [tiny_hf.token_ids(length, seed=length) for length in (1, 40, 9, 100)]

POOLING: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "cls": lambda hidden: hidden[0],
    "max": lambda hidden: hidden.amax(0),
    "mean": lambda hidden: hidden.mean(0),
    "mean_sqrt_len_tokens": lambda hidden: hidden.sum(0) / len(hidden) ** 0.5,
    "weightedmean": lambda hidden: (
        (hidden * torch.arange(1, len(hidden) + 1).unsqueeze(1)).sum(0) / sum(range(len(hidden) + 1))
    ),
    "lasttoken": lambda hidden: hidden[-1],
}
OLD_KEYS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
OLD_TYPES = {name: f"sentence_transformers.models.{name}" for name in ("Transformer", "Pooling", "Dense", "Normalize")}
NEW_TYPES = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
}


def write(folder: Path, modules: list[tuple[str, dict[str, Any] | None]], types: dict[str, str] = NEW_TYPES) -> None:
    """modules.json and a folder with a config.json for each module after the first."""
    listed = []
    for number, (kind, config) in enumerate([("Transformer", None), *modules]):
        place = f"{number}_{kind}" if number else ""
        listed.append({"idx": number, "name": str(number), "path": place, "type": types.get(kind, f"somewhere.{kind}")})
        if number:
            (folder / place).mkdir()
            if config is not None:
                (folder / place / "config.json").write_text(json.dumps(config))
    (folder / "modules.json").write_text(json.dumps(listed))


@pytest.fixture
def hidden_of(tmp_path: Path) -> Callable[[list[int]], torch.Tensor]:
    reference = tiny_hf.make(tmp_path, "BertModel", num_hidden_layers=2, pad_token_id=0)

    @torch.no_grad()
    def hidden(text: list[int]) -> torch.Tensor:
        return reference(torch.tensor([text])).last_hidden_state[0]

    return hidden


@pytest.mark.parametrize("layout", ["old", "new"])
@pytest.mark.parametrize(
    "modes", [*[[mode] for mode in POOLING], ["lasttoken", "cls", "mean"], list(POOLING)[::-1]], ids="+".join
)
def test_every_mode_in_both_layouts(
    modes: list[str], layout: str, hidden_of: Callable[[list[int]], torch.Tensor], tmp_path: Path
) -> None:
    if layout == "old":
        write(tmp_path, [("Pooling", {key: mode in modes for mode, key in OLD_KEYS.items()})], OLD_TYPES)
    else:
        write(tmp_path, [("Pooling", {"pooling_mode": modes if len(modes) > 1 else modes[0], "embedding_dimension": 48})])
    model = PoolingModel(tmp_path)
    for text, ours in zip(TEXTS, model.pooled(TEXTS), strict=True):
        expected = torch.cat([POOLING[mode](hidden_of(text)) for mode in POOLING if mode in modes])
        torch.testing.assert_close(torch.from_numpy(ours), expected, rtol=1e-5, atol=2e-5)
        assert np.array_equal(model.pooled([text])[0], ours)


@pytest.mark.parametrize("types", [OLD_TYPES, NEW_TYPES], ids=["old", "new"])
def test_dense_and_normalize(types: dict[str, str], hidden_of: Callable[[list[int]], torch.Tensor], tmp_path: Path) -> None:
    dense = {"in_features": 48, "out_features": 20, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}
    write(tmp_path, [("Pooling", {}), ("Dense", dense), ("Normalize", None)], types)
    weight, bias = torch.randn(20, 48), torch.randn(20)
    save_file({"linear.weight": weight, "linear.bias": bias}, tmp_path / "2_Dense" / "model.safetensors")
    for text, ours in zip(TEXTS, PoolingModel(tmp_path).pooled(TEXTS), strict=True):
        vector = torch.tanh(hidden_of(text).mean(0) @ weight.T + bias)
        torch.testing.assert_close(torch.from_numpy(ours), vector / vector.norm(), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("said", "unit"), [(None, False), (True, True), (False, False)])
def test_vectors_are_normalized_where_files_or_requests_say_so(
    said: bool | None, unit: bool, hidden_of: Callable[[list[int]], torch.Tensor], tmp_path: Path
) -> None:
    write(tmp_path, [("Pooling", {"pooling_mode": "mean"})])
    [ours] = PoolingModel(tmp_path).pooled(TEXTS[1:2], PoolingParams(use_activation=said))
    vector = hidden_of(TEXTS[1]).mean(0)
    torch.testing.assert_close(torch.from_numpy(ours), vector / vector.norm() if unit else vector, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ([("Pooling", {"include_prompt": False})], "include_prompt must be true"),
        ([("Pooling", {"pooling_mode": "median"})], "pooling_mode must be one or several of cls, max"),
        ([("Router", {})], "a module of the type Router is not known"),
        ([("Pooling", {}), ("Normalize", None), ("Dense", {})], "a Transformer is first, a Normalize last"),
        (
            [("Pooling", {}), ("Dense", {"in_features": 48, "out_features": 4, "use_residual": True})],
            "use_residual must be false",
        ),
        (
            [("Pooling", {}), ("Dense", {"in_features": 48, "out_features": 4, "activation_function": "a.Mish"})],
            "activation_function must be",
        ),
    ],
)
def test_what_is_not_known_is_refused(
    modules: list[tuple[str, Any]], said: str, hidden_of: Callable[[list[int]], torch.Tensor], tmp_path: Path
) -> None:
    write(tmp_path, modules)
    with pytest.raises(ConfigError, match=said):
        PoolingModel(tmp_path)


def test_dimensions(hidden_of: Callable[[list[int]], torch.Tensor], tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="does not support matryoshka representation"):
        PoolingModel(tmp_path).pooled(TEXTS[:1], PoolingParams(dimensions=8))
    model = PoolingModel(tmp_path, hf_overrides={"matryoshka_dimensions": [8, 16]})
    [ours] = model.pooled(TEXTS[1:2], PoolingParams(dimensions=8))
    vector = hidden_of(TEXTS[1])[0, :8]
    torch.testing.assert_close(torch.from_numpy(ours), vector / vector.norm(), rtol=1e-5, atol=2e-5)
    with pytest.raises(ValidationError, match="dimensions must be one of 8, 16, got 12"):
        model.pooled(TEXTS[:1], PoolingParams(dimensions=12))
    with pytest.raises(ValidationError, match="dimensions must be from 1 to 48, got 49"):
        PoolingModel(tmp_path, hf_overrides={"is_matryoshka": True}).pooled(TEXTS[:1], PoolingParams(dimensions=49))


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("kind", ["CLS", "LAST", "MEAN", "MAX"])
def test_decoders_embed_whatever_their_chunks(kind: str, chunk: int, tmp_path: Path) -> None:
    reference = tiny_hf.make(tmp_path, "LlamaForCausalLM", num_hidden_layers=2)
    model = PoolingModel(tmp_path, runner="pooling", pooler_config={"pooling_type": kind, "use_activation": False})
    names = {"CLS": "cls", "LAST": "lasttoken", "MEAN": "mean", "MAX": "max"}
    for text, ours in zip(TEXTS, model.pooled(TEXTS, chunk=chunk), strict=True):
        with torch.no_grad():
            hidden = reference.model(torch.tensor([text])).last_hidden_state[0]
        torch.testing.assert_close(torch.from_numpy(ours), POOLING[names[kind]](hidden), rtol=1e-5, atol=3e-5)


def test_what_runner_and_convert_ask_of_a_model_that_it_is_not(tmp_path: Path) -> None:
    tiny_hf.make(tmp_path, "LlamaForCausalLM", num_hidden_layers=1)
    with pytest.raises(ConfigError, match="--convert classify: LlamaForCausalLM has no classifier"):
        PoolingModel(tmp_path, runner="pooling", convert="classify")
    with pytest.raises(ConfigError, match="--pooler-config is of pooling models"):
        PoolingModel(tmp_path, pooler_config={"pooling_type": "LAST"})
    with pytest.raises(ConfigError, match="--pooler-config: 'step_tag_id' is not supported"):
        PoolingModel(tmp_path, runner="pooling", pooler_config={"step_tag_id": 3})
    assert PoolingModel(tmp_path, task="embed").config.model.pooling is not None
    assert PoolingModel(tmp_path).config.model.pooling is None
