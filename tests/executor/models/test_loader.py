"""Loading: formats agree, and a checkpoint that does not fit says which tensor is wrong."""

from __future__ import annotations

import gc
import json
import struct
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from parity import tiny_hf
from parity.paged import PagedSequences, engine_config, load
from safetensors.torch import load_file, save_file

from octavo.errors import ConfigError
from octavo.executor.loader import load_model

IDS = [5, 80, 3, 99, 42, 7]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    tiny_hf.make(folder, "LlamaForCausalLM", num_hidden_layers=2)
    return folder


def logits(folder: Path, dtype: str = "float32", **engine_args: Any) -> torch.Tensor:
    model = load(folder, dtype, **engine_args)
    return PagedSequences(model, getattr(torch, dtype)).logits("a", IDS)


def rewritten(source: Path, target: Path, change: Any) -> Path:
    """A copy of a checkpoint whose dict of tensors went through `change`."""
    tensors = load_file(source / "model.safetensors")
    change(tensors)
    (target / "config.json").write_text((source / "config.json").read_text())
    save_file(tensors, target / "model.safetensors")
    return target


def test_sharded_equals_single(llama: Path, tmp_path: Path) -> None:
    tensors = load_file(llama / "model.safetensors")
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, members in shards.items():
        save_file({name: tensors[name] for name in members}, tmp_path / file)
    weight_map = {name: file for file, members in shards.items() for name in members}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (tmp_path / "config.json").write_text((llama / "config.json").read_text())
    assert torch.equal(logits(tmp_path), logits(llama))

    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"lacks model-00002-of-00002\.safetensors"):
        logits(tmp_path)


@pytest.mark.parametrize("saved", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_are_converted(saved: torch.dtype, llama: Path, tmp_path: Path) -> None:
    def as_saved(tensors: dict[str, torch.Tensor]) -> None:
        tensors.update({name: tensor.to(saved) for name, tensor in tensors.items()})

    def through(tensors: dict[str, torch.Tensor]) -> None:
        tensors.update({name: tensor.to(saved).float() for name, tensor in tensors.items()})

    first, second = tmp_path / "saved", tmp_path / "widened"
    first.mkdir()
    second.mkdir()
    ours = logits(rewritten(llama, first, as_saved))
    assert torch.equal(ours, logits(rewritten(llama, second, through)))


def test_missing_tensor_is_named(llama: Path, tmp_path: Path) -> None:
    rewritten(llama, tmp_path, lambda tensors: tensors.pop("model.layers.1.mlp.down_proj.weight"))
    with pytest.raises(ConfigError, match=r"model\.layers\.1\.mlp\.down_proj\.weight is missing"):
        logits(tmp_path)


def test_unexpected_tensor_is_named(llama: Path, tmp_path: Path) -> None:
    rewritten(llama, tmp_path, lambda tensors: tensors.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(48)}))
    with pytest.raises(ConfigError, match=r"model\.layers\.0\.self_attn\.q_proj\.bias does not belong"):
        logits(tmp_path)


def test_misshaped_tensor_is_named_with_both_shapes(llama: Path, tmp_path: Path) -> None:
    rewritten(llama, tmp_path, lambda tensors: tensors.update({"model.norm.weight": torch.ones(50)}))
    with pytest.raises(ConfigError, match=r"model\.norm\.weight \[50\] instead of \[48\]"):
        logits(tmp_path)


def test_long_lists_are_cut(llama: Path, tmp_path: Path) -> None:
    def without_norms_and_projections(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if "_proj" in name][:9]:
            del tensors[name]

    with pytest.raises(ConfigError, match="and 1 more is missing"):
        logits(rewritten(llama, tmp_path, without_norms_and_projections))


def test_more_layers_than_there_are_weights_for(llama: Path, tmp_path: Path) -> None:
    rewritten(llama, tmp_path, lambda _: None)
    with pytest.raises(ConfigError, match=r"config\.json with --hf-overrides: num_hidden_layers must be at most the 2"):
        logits(tmp_path, hf_overrides={"num_hidden_layers": 3})


def test_superfluous_tensors_are_ignored(tmp_path: Path) -> None:
    original, changed = tmp_path / "original", tmp_path / "changed"
    changed.mkdir()
    tiny_hf.make(original, "LlamaForCausalLM", tie_word_embeddings=True)

    def add(tensors: dict[str, torch.Tensor]) -> None:
        tensors["lm_head.weight"] = torch.randn(160, 48)
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.randn(6)

    assert torch.equal(logits(rewritten(original, changed, add)), logits(original))


def test_incomplete_file(llama: Path, tmp_path: Path) -> None:
    data = (llama / "model.safetensors").read_bytes()
    (tmp_path / "config.json").write_text((llama / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(data[:-1000])
    with pytest.raises(ConfigError, match="is incomplete: it ends before tensor"):
        logits(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not safetensors at all",
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        b'\x3a\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,2000000]}}',
    ],
)
def test_damaged_header(content: bytes, llama: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((llama / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match=r"model\.safetensors is"):
        logits(tmp_path)


def test_unreadable_type_is_refused(llama: Path, tmp_path: Path) -> None:
    rewritten(llama, tmp_path, lambda tensors: tensors.update({"model.norm.weight": torch.ones(48, dtype=torch.int8)}))
    with pytest.raises(ConfigError, match=r"model\.norm\.weight is of type I8"):
        logits(tmp_path)


def test_quantized_checkpoint_is_refused(llama: Path, tmp_path: Path) -> None:
    rewritten(llama, tmp_path, lambda _: None)
    config = json.loads((tmp_path / "config.json").read_text()) | {"quantization_config": {"quant_method": "awq"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="quantized with awq"):
        logits(tmp_path)


def test_dummy_weights_follow_the_seed(llama: Path) -> None:
    first = logits(llama, load_format="dummy", seed=1)
    assert torch.equal(first, logits(llama, load_format="dummy", seed=1))
    assert not torch.equal(first, logits(llama, load_format="dummy", seed=2))
    assert first.isfinite().all()


def test_progress_runs_from_zero_to_one(llama: Path) -> None:
    seen: list[float] = []
    load_model(engine_config(llama), torch.device("cpu"), seen.append)
    assert seen[0] == 0.0
    assert seen[-1] == 1.0
    assert seen == sorted(seen)
    assert len(seen) > 3


def test_unpacked_weights_are_given_back(llama: Path) -> None:
    """After loading only what the kernels multiply with is kept: no layer holds its weights a second time."""
    model = load(llama)
    assert model.layers[0].attention.qkv.held is None
    assert model.layers[0].mlp.down.held is None
    assert [(spec.num_kv_heads, spec.head_dim) for spec in model.cache_specs] == [(2, 12), (2, 12)]


def test_positions_that_fit_no_memory_name_the_flag(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.executor.models.build.available_bytes", lambda _: 1 << 30)
    with pytest.raises(ConfigError, match=r"--max-model-len 33554432 need 4\.50 GiB, more than there is: lower it"):
        load(llama, hf_overrides={"max_position_embeddings": 1 << 25})


def test_a_models_memory_goes_with_its_last_user(llama: Path) -> None:
    """Without the garbage collector."""
    gc.collect()
    model = load(llama)
    PagedSequences(model).greedy("a", tiny_hf.token_ids(5), 2)
    seen = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert seen() is None
    finally:
        gc.enable()


def test_activations_of_a_step_are_known_before_it_runs(llama: Path) -> None:
    """Per token: the float32 stream, what feeds and leaves the products, and gated rows; nothing grows with the layers."""
    model = load(llama)
    one, many = model.activation_bytes(1), model.activation_bytes(1000)
    assert many == 1000 * one
    hidden, inner, heads = 48, 80, 4 * 12
    assert 4 * (hidden + inner) <= one <= 4 * (4 * hidden + inner + 4 * heads)
