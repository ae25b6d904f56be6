"""GGUF: every block format, every architecture's layout, and the metadata that stands for config.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from parity import gguf_files, tiny_hf
from parity.paged import PagedSequences, engine_config, load

from octavo.errors import ConfigError
from octavo.executor.loader.gguf import GGUFCheckpoint
from octavo.executor.loader.gguf_blocks import dequantize
from octavo.kernels.cpu.blocks import FORMATS
from octavo.kernels.cpu.linear import COMPACT, DENSE
from octavo.sources.gguf_config import generation_config, model_config
from octavo.sources.gguf_file import SkippedArray, read_gguf
from octavo.sources.model_source import find_model

PACKED = [
    Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K, Kind.IQ4_NL,
]  # fmt: skip


def blocks(kind: Kind, count: int) -> np.ndarray:
    """Random blocks; bytes are small enough that no 16-bit number among them is infinite or NaN."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    return np.random.default_rng(0).integers(0, 0x3C, (count, size), dtype=np.uint8)


@pytest.mark.parametrize("kind", PACKED)
def test_blocks_dequantize_to_the_bits_of_the_gguf_package(kind: Kind) -> None:
    packed = blocks(kind, 37)
    out = torch.empty(37, gguf.GGML_QUANT_SIZES[kind][0])
    dequantize(torch.from_numpy(packed), kind, out)
    assert np.array_equal(out.numpy(), gguf.quants.dequantize(packed, kind))


def test_all_bytes_of_the_fast_formats() -> None:
    """The signed and high halves too, which `blocks` leaves out."""
    for kind, scales in ((Kind.Q8_0, 2), (Kind.Q4_0, 2), (Kind.Q4_1, 4)):
        packed = np.random.default_rng(1).integers(0, 256, (64, gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
        packed[:, :scales] = np.random.default_rng(2).normal(size=(64, scales // 2)).astype(np.float16).view(np.uint8)
        out = torch.empty(64, 32)
        dequantize(torch.from_numpy(packed), kind, out)
        assert np.array_equal(out.numpy(), gguf.quants.dequantize(packed, kind))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_of_all_types_in_one_file(dtype: torch.dtype, tmp_path: Path) -> None:
    """Rows of several blocks, more values than are worked on at once, plain types too."""
    kinds = [*PACKED, Kind.F32, Kind.F16]
    shape = (700, 512)
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    data = {kind: blocks(kind, 700 * 512 // gguf.GGML_QUANT_SIZES[kind][0]).reshape(700, -1) for kind in PACKED}
    data |= {Kind.F32: values, Kind.F16: values.astype(np.float16)}
    path = tmp_path / "all.gguf"
    tensors = {f"blk.{i}.ffn_down.weight": (data[kind], kind) for i, kind in enumerate(kinds)}
    gguf_files.write_tensors(path, tensors, block_count=len(kinds))

    checkpoint = GGUFCheckpoint(path, 4, 2)
    for i, kind in enumerate(kinds):
        name = f"model.layers.{i}.mlp.down_proj.weight"
        assert checkpoint.shapes[name] == shape
        target = torch.empty(shape, dtype=dtype)
        checkpoint.read(name, target)
        expected = torch.from_numpy(np.array(gguf.quants.dequantize(data[kind], kind), dtype=np.float32))
        assert torch.equal(target, expected.to(dtype)), kind


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {"attention_bias": True}),
    "llama-yarn": ("LlamaForCausalLM", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 5e3,
                                                            "original_max_position_embeddings": 32}}),
    "llama-tied": ("LlamaForCausalLM", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "qwen2": ("Qwen2ForCausalLM", {}),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 24}),
    "phi3": ("Phi3ForCausalLM", {"sliding_window": 9, "hidden_size": 64, "partial_rotary_factor": 0.75}),
    "gemma": ("GemmaForCausalLM", {"head_dim": 16}),
    "gemma2": ("Gemma2ForCausalLM", {"head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_model_equals_transformers(case: str, tmp_path: Path) -> None:
    architecture, changes = CASES[case]
    reference = tiny_hf.make(tmp_path / "hf", architecture, **changes)
    gguf_files.write(tmp_path / "model.gguf", reference)
    prompt = tiny_hf.token_ids(20)
    expected = tiny_hf.greedy(reference, prompt, 32)
    sequences = PagedSequences(load(tmp_path / "model.gguf"))
    assert sequences.greedy("a", prompt, 32) == expected
    assert tiny_hf.difference(sequences.logits("b", prompt), tiny_hf.logits(reference, prompt)) < 2e-5


FOURFOLD = {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}


@pytest.mark.parametrize(
    ("keys", "overrides"),
    [
        ({"rope.scale_linear": 4.0}, {}),
        ({"rope.scaling.factor": 4.0}, {}),
        ({}, {"rope_scaling": {"type": "linear", "factor": 4.0}}),
        ({}, {"rope_parameters": {"rope_type": "linear", "factor": 4.0}}),
    ],
    ids=str,
)
def test_linear_scaling_however_it_is_said(keys: dict[str, float], overrides: dict[str, Any], tmp_path: Path) -> None:
    reference = tiny_hf.make(tmp_path / "scaled", "LlamaForCausalLM", num_hidden_layers=2, rope_parameters=FOURFOLD)
    plain = tiny_hf.make(tmp_path / "plain", "LlamaForCausalLM", num_hidden_layers=2)
    gguf_files.write(tmp_path / "model.gguf", plain, keys=keys)
    config = engine_config(tmp_path / "model.gguf", hf_overrides=overrides)
    assert config.model.max_model_len == 4 * plain.config.max_position_embeddings
    ids = tiny_hf.token_ids(150)
    ours = PagedSequences(load(tmp_path / "model.gguf", hf_overrides=overrides)).logits("a", ids)
    assert tiny_hf.difference(ours, tiny_hf.logits(reference, ids)) < 2e-5


@pytest.mark.parametrize("overrides", [{"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, {"rope_parameters": FOURFOLD}])
def test_scaling_by_overrides_of_a_folder(overrides: dict[str, Any], tmp_path: Path) -> None:
    """transformers 5 has saved it with rope_parameters."""
    reference = tiny_hf.make(tmp_path / "scaled", "LlamaForCausalLM", num_hidden_layers=2, rope_parameters=FOURFOLD)
    tiny_hf.make(tmp_path / "plain", "LlamaForCausalLM", num_hidden_layers=2)
    ids = tiny_hf.token_ids(150)
    ours = PagedSequences(load(tmp_path / "plain", hf_overrides=overrides)).logits("a", ids)
    assert tiny_hf.difference(ours, tiny_hf.logits(reference, ids)) < 2e-5


@pytest.mark.parametrize(
    ("keys", "factor"), [({"rope.scaling.factor": 0.0}, None), ({"rope.scaling.factor": 0.0, "rope.scale_linear": 8.0}, 8.0)]
)
def test_a_factor_of_zero_is_none(keys: dict[str, float], factor: float | None, tmp_path: Path) -> None:
    gguf_files.write(tmp_path / "x.gguf", tiny_hf.make(tmp_path, "LlamaForCausalLM", num_hidden_layers=1), keys=keys)
    rope = model_config(read_gguf(tmp_path / "x.gguf"))["rope_parameters"]
    assert (rope["rope_type"], rope.get("factor")) == ("linear" if factor else "default", factor)


def test_llama3_scaling_comes_as_a_tensor(tmp_path: Path) -> None:
    llama3 = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
        "rope_theta": 5e3,
    }
    reference = tiny_hf.make(tmp_path / "hf", "LlamaForCausalLM", rope_parameters=llama3)
    rotary = reference.model.rotary_emb
    unscaled = 1.0 / 5e3 ** (torch.arange(0, 12, 2) / 12)
    gguf_files.write(tmp_path / "model.gguf", reference, rope_freqs=(unscaled / rotary.inv_freq).tolist())
    ids = tiny_hf.token_ids(100)
    ours = PagedSequences(load(tmp_path / "model.gguf")).logits("a", ids)
    assert tiny_hf.difference(ours, tiny_hf.logits(reference, ids)) < 2e-5


def test_phi3_long_factors_come_as_tensors(tmp_path: Path) -> None:
    short, long = [1.0, 1.2, 1.4, 1.6, 1.8, 2.0], [1.0, 2.0, 4.0, 8.0, 12.0, 20.0]
    rope = {"rope_type": "longrope", "short_factor": short, "long_factor": long, "attention_factor": 1.0, "rope_theta": 1e4}
    reference = tiny_hf.make(
        tmp_path / "hf", "Phi3ForCausalLM", sliding_window=None, original_max_position_embeddings=32, rope_parameters=rope
    )
    gguf_files.write(tmp_path / "model.gguf", reference, rope_factors_short=short, rope_factors_long=long)
    ids = tiny_hf.token_ids(60)
    ours = PagedSequences(load(tmp_path / "model.gguf")).logits("a", ids)
    assert tiny_hf.difference(ours, tiny_hf.logits(reference, ids)) < 2e-5


def test_quantized_model_equals_its_dequantized_weights(tmp_path: Path) -> None:
    reference = tiny_hf.make(tmp_path / "hf", "LlamaForCausalLM", hidden_size=64, intermediate_size=96)
    gguf_files.write(tmp_path / "model.gguf", reference, Kind.Q4_1)
    with torch.no_grad():
        for parameter in reference.parameters():
            if parameter.dim() == 2:
                packed = gguf.quants.quantize(parameter.numpy(), Kind.Q4_1)
                parameter.copy_(torch.from_numpy(gguf.quants.dequantize(packed, Kind.Q4_1)))
    ids = tiny_hf.token_ids(30)
    ours = PagedSequences(load(tmp_path / "model.gguf")).logits("a", ids)
    assert tiny_hf.difference(ours, tiny_hf.logits(reference, ids)) < 2e-5


def form_of(linear: Any) -> int:
    """How a packed weight lies in memory, as the native kernels number it."""
    form: int = linear.packed.form
    return form


@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1])
def test_blocks_stay_as_they_are(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bits of the same weights widened; with 8-bit activations close to them. Rows of q and k come back in order."""
    reference = tiny_hf.make(
        tmp_path / "hf", "LlamaForCausalLM", hidden_size=64, intermediate_size=96, head_dim=16, tie_word_embeddings=True
    )
    gguf_files.write(tmp_path / "model.gguf", reference, kind)
    ids = tiny_hf.token_ids(30)
    model = load(tmp_path / "model.gguf")
    layers = [one for layer in model.layers for one in (layer.attention.qkv, layer.attention.out, layer.mlp.gate_up)]
    assert {model.embedding.table.form, *map(form_of, layers)} == {FORMATS[kind.name]}
    kept = PagedSequences(model).logits("a", ids)
    with monkeypatch.context() as patched:
        patched.setattr("octavo.executor.loader.load.keep_blocks", lambda *_: None)
        widened = load(tmp_path / "model.gguf")
    assert form_of(widened.layers[0].mlp.down) == DENSE
    assert torch.equal(kept, PagedSequences(widened).logits("a", ids))
    integers = PagedSequences(load(tmp_path / "model.gguf", "bfloat16", quantization="gguf"), torch.bfloat16)
    assert tiny_hf.difference(logits := integers.logits("a", ids), kept) < 0.3
    assert torch.equal(integers.logits("b", ids, chunk=7), logits)


def test_a_matrix_of_two_kinds_is_widened(tmp_path: Path) -> None:
    """Some files give v more bits than q and k."""
    reference = tiny_hf.make(tmp_path / "hf", "LlamaForCausalLM", hidden_size=64, intermediate_size=96, head_dim=16)
    gguf_files.write(tmp_path / "model.gguf", reference, Kind.Q4_1, better={"attn_v": Kind.Q8_0})
    model = load(tmp_path / "model.gguf", "bfloat16", quantization="gguf")
    assert {form_of(layer.attention.qkv) for layer in model.layers} <= {DENSE, COMPACT}
    assert {form_of(layer.attention.out) for layer in model.layers} == {FORMATS["Q4_1"]}
    ids = tiny_hf.token_ids(30)
    widened = PagedSequences(load(tmp_path / "model.gguf")).logits("a", ids)
    assert tiny_hf.difference(PagedSequences(model, torch.bfloat16).logits("a", ids), widened) < 0.3


@pytest.mark.parametrize("kind", [Kind.Q4_K, Kind.Q5_K, Kind.Q6_K])
def test_blocks_of_256_come_as_they_are(kind: Kind, tmp_path: Path) -> None:
    """The gguf package does not make such blocks: rows of raw ones, of q with its rows in pairs, and of others."""
    data = blocks(kind, 64).reshape(64, -1)
    names = {"model.layers.0.self_attn.q_proj": "blk.0.attn_q.weight", "model.layers.0.mlp.down_proj": "blk.0.ffn_down.weight"}
    gguf_files.write_tensors(tmp_path / "x.gguf", dict.fromkeys(names.values(), (data, kind)), block_count=1)
    checkpoint = GGUFCheckpoint(tmp_path / "x.gguf", 4, 2)
    for name in names:
        raw, values = torch.empty(data.shape, dtype=torch.uint8), torch.empty(64, 256)
        checkpoint.read(f"{name}.weight", raw)
        checkpoint.read(f"{name}.weight", values)
        assert np.array_equal(gguf.quants.dequantize(raw.numpy(), kind), values.numpy())


def test_metadata_becomes_a_config(tmp_path: Path) -> None:
    reference = tiny_hf.make(tmp_path / "hf", "Qwen2ForCausalLM", vocab_size=2000)
    path = tmp_path / "model.gguf"
    gguf_files.write(path, reference)
    file = read_gguf(path)
    assert file.metadata["tokenizer.ggml.tokens"] == SkippedArray(2000)
    config = model_config(file)
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    for key in ("vocab_size", "hidden_size", "num_key_value_heads", "max_position_embeddings", "tie_word_embeddings"):
        assert config[key] == getattr(reference.config, key)
    assert generation_config(file)["eos_token_id"] == [2, 4]
    files = find_model(str(path))
    assert (files.format, files.path, files.config) == ("gguf", str(path), config)


def test_not_a_gguf_file(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(ConfigError, match="is not a GGUF file"):
        find_model(str(path))


@pytest.mark.parametrize("size", [10, 200, 1000])
def test_cut_off_header(size: int, tmp_path: Path) -> None:
    reference = tiny_hf.make(tmp_path / "hf", "LlamaForCausalLM", num_hidden_layers=1)
    path = tmp_path / "x.gguf"
    gguf_files.write(path, reference)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ConfigError, match="damaged or incomplete"):
        find_model(str(path))


def test_cut_off_weights(tmp_path: Path) -> None:
    reference = tiny_hf.make(tmp_path / "hf", "LlamaForCausalLM", num_hidden_layers=1)
    path = tmp_path / "x.gguf"
    gguf_files.write(path, reference)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ConfigError, match="is incomplete: it ends before"):
        load(path)


def test_unknown_architecture(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "mamba")
    gguf_files._finish(writer)
    with pytest.raises(ConfigError, match="architecture 'mamba' is not one of llama, qwen2"):
        find_model(str(tmp_path / "x.gguf"))


def test_missing_metadata_is_named(tmp_path: Path) -> None:
    gguf_files.write_tensors(tmp_path / "x.gguf", {}, block_count=1)
    with pytest.raises(ConfigError, match=r"metadata lacks llama\.embedding_length"):
        find_model(str(tmp_path / "x.gguf"))
