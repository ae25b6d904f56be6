"""Model files are input: whatever is in them ends in one ConfigError that names file, key and what is allowed, at small cost.

`CHAOS_EXAMPLES` sets how many spoilt files of each kind are tried.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from chaos.model_files import (
    ARRAY,
    CONFIG,
    F32,
    GGUF_KEYS,
    I32,
    SHAPES,
    TEXT,
    U32,
    U64,
    changed,
    gguf_bytes,
    gguf_tensors,
    header_of,
    size_of,
    write_folder,
    write_safetensors,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.cache_groups import CacheSpec
from octavo.config import EngineArgs, EngineConfig
from octavo.errors import ConfigError
from octavo.executor.loader import load_model
from octavo.kernels import ops
from octavo.sources import hf_config

MOST_MEMORY = 500 << 20
EXAMPLES = settings(
    max_examples=int(os.environ.get("CHAOS_EXAMPLES", "150")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
DEEP = "[" * 3000 + "]" * 3000


def configure(path: Path) -> EngineConfig:
    args = EngineArgs(model=str(path), device="cpu", dtype="float32", max_model_len=16, num_threads=1, skip_tokenizer_init=True)
    return args.create_engine_config()


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    """The process never takes half a gigabyte more than before."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is there
    before = resident("VmRSS")
    yield
    assert resident("VmHWM") - before < MOST_MEMORY


def resident(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


@pytest.fixture(scope="module", autouse=True)
def kernels() -> Iterator[None]:
    before = ops.current()
    if not before:
        ops.use(device="cpu")
    yield
    if not before:
        ops.use(None)


def refused(path: Path, words: str) -> None:
    """One error, before any weight is read, that says where and what."""
    with pytest.raises(ConfigError) as caught:
        configure(path)
    message = str(caught.value)
    assert words in message
    assert str(path) in message, "which file"
    assert len(message) < 2000


def takes_or_refuses(path: Path) -> None:
    """What a spoilt file may do: load after all, or be refused."""
    message = ""
    try:
        load_model(configure(path), torch.device("cpu"), lambda _: None)
    except ConfigError as error:
        message = str(error)
    assert len(message) < 4000


def test_the_unspoilt_load(tmp_path: Path) -> None:
    for shards in (1, 3):
        folder = write_folder(tmp_path / str(shards), shards=shards)
        assert load_model(configure(folder), torch.device("cpu"), lambda _: None).cache_specs == [CacheSpec("full", 1, 8)]
    file = tmp_path / "tiny.gguf"
    file.write_bytes(gguf_bytes())
    assert load_model(configure(file), torch.device("cpu"), lambda _: None).cache_specs == [CacheSpec("full", 1, 8)]


# ---- config.json ------------------------------------------------------------------------------------------------------

MIXTRAL = {"architectures": ["MixtralForCausalLM"]}
CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"num_attention_heads": -2}, "num_attention_heads must be an integer from 1 to"),
    ({"num_attention_heads": 0}, "num_attention_heads must be an integer from 1 to"),
    ({"num_attention_heads": "2"}, "num_attention_heads must be an integer from 1 to"),
    ({"num_attention_heads": 2.0}, "num_attention_heads must be an integer from 1 to"),
    ({"num_attention_heads": True}, "num_attention_heads must be an integer from 1 to"),
    ({"num_key_value_heads": 3}, "num_key_value_heads must be a divisor of num_attention_heads, 2"),
    ({"head_dim": None, "num_attention_heads": 3, "num_key_value_heads": 3}, "hidden_size must be a multiple of num_attention"),
    ({"head_dim": 7}, "even number of a head's 7 values"),
    ({"vocab_size": 10**12}, "vocab_size must be an integer from 1 to"),
    ({"vocab_size": 10**40}, "vocab_size must be an integer from 1 to"),
    ({"vocab_size": None}, "lacks 'vocab_size'"),
    ({"vocab_size": 25}, "vocab_size and hidden_size make model.embed_tokens.weight [25, 16], the weights have [24, 16]"),
    ({"num_hidden_layers": 2**32}, "num_hidden_layers must be an integer from 1 to"),
    ({"num_hidden_layers": 1000}, "num_hidden_layers must be at most the 1 of the weights"),
    ({"intermediate_size": 1 << 22}, "intermediate_size and hidden_size make"),
    ({"head_dim": 64}, "num_attention_heads, head_dim and hidden_size make"),
    ({"max_position_embeddings": 2**40}, "max_position_embeddings must be an integer from 1 to"),
    ({"max_position_embeddings": None}, "max_position_embeddings"),
    ({"rms_norm_eps": 0}, "rms_norm_eps must be a number above 0"),
    ({"rms_norm_eps": "tiny"}, "rms_norm_eps must be a number above 0"),
    ({"rope_theta": -1.0}, "rope_theta must be a number above 0"),
    ({"rope_scaling": "x"}, "rope_scaling must be an object, got 'x'"),
    ({"rope_scaling": {"rope_type": "linear", "factor": "x"}}, "rope_parameters.factor must be a number above 0"),
    ({"rope_scaling": {"rope_type": "linear"}}, "'linear' needs the parameter 'factor'"),
    ({"rope_scaling": {"rope_type": ["linear"]}}, "is not one of default, linear"),
    ({"rope_parameters": {"a": {"rope_type": "linear"}, "b": 3}, "rope_scaling": None}, "needs the parameter 'factor'"),
    ({"rope_scaling": {"rope_type": "longrope", "long_factor": [1], "short_factor": [1, 2]}}, "must hold 4 numbers"),
    ({"partial_rotary_factor": 0.1}, "partial_rotary_factor must leave an even number"),
    ({"sliding_window": -3}, "sliding_window must be an integer from 0 to"),
    ({"layer_types": ["full_attention"] * 3}, "layer_types must be a list of one value for each of the 1 layers"),
    ({"eos_token_id": ["2"]}, "eos_token_id must be a token id, or a list of them"),
    ({"eos_token_id": 2**70}, "eos_token_id must be a token id, or a list of them"),
    (MIXTRAL | {"num_local_experts": 1 << 30}, "num_local_experts must be an integer from 1 to"),
    (MIXTRAL | {"num_experts_per_tok": "2"}, "num_experts_per_tok must be an integer from 1 to"),
    (MIXTRAL | {"num_local_experts": 2, "num_experts_per_tok": 3}, "num_experts_per_tok must be at most num_local_experts, 2"),
    ({"text_config": 3}, "text_config must be an object"),
    ({"architectures": "LlamaForCausalLM"}, "architectures must be a list of names"),
    ({"architectures": []}, "names no architecture"),
    ({"architectures": ["MambaForCausalLM"], "vocab_size": -1}, "architecture 'MambaForCausalLM' is not supported"),
    ({"quantization_config": {"quant_method": "awq"}}, "quantized with awq"),
    ({"quantization_config": [1]}, "quantized with an unknown method"),
    ({"hidden_act": 3}, "hidden_act must be a string"),
    ({"tie_word_embeddings": "no"}, "tie_word_embeddings must be true or false"),
]


@pytest.mark.parametrize(
    ("changes", "words"), CONFIGS, ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else ""
)
def test_config(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", CONFIG | changes)
    with pytest.raises(ConfigError) as caught:
        configure(folder)
    assert words in str(caught.value)
    assert "config.json" in str(caught.value)


def test_numbers_of_experts_are_those_of_the_weights() -> None:
    config = CONFIG | {"num_local_experts": 4}
    shapes = {f"model.layers.0.{block}.gate.weight": (8, 16) for block in ("mlp", "block_sparse_moe")}
    for name, shape in shapes.items():
        with pytest.raises(ConfigError, match=r"num_local_experts and hidden_size make .*gate.weight \[4, 16\]"):
            hf_config.check_sizes("config.json", config, "MixtralForCausalLM", {name: shape})
    hf_config.check_sizes("config.json", config, "LlamaForCausalLM", shapes)


def test_others_may_say_what_they_like_of_experts(tmp_path: Path) -> None:
    configure(write_folder(tmp_path / "model", CONFIG | {"num_local_experts": 1, "num_experts_per_tok": 0}))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not valid JSON"),
        (b"[1]", "should hold a JSON object"),
        (b"\xff\xfe{}", "is not valid JSON"),
        (b'{"a": 1, "a": 2}', "the key 'a' is there twice"),
        (b'{"rms_norm_eps": NaN}', "numbers must be finite"),
        (b'{"rms_norm_eps": -Infinity}', "numbers must be finite"),
        (b'{"rms_norm_eps": 1e999}', "numbers must be finite"),
        (b'{"vocab_size": ' + b"9" * 5000 + b"}", "numbers must be finite"),
        (f'{{"a": {DEEP}}}'.encode(), "nested deeper than 64 levels"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "nested deeper than 64 levels"),
        (b'{"a": "' + b"x" * (5 << 20) + b'"}', "is larger than"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_json(data: bytes, words: str, tmp_path: Path) -> None:
    refused(write_folder(tmp_path / "model", data), words)
    folder = write_folder(tmp_path / "other")
    (folder / "generation_config.json").write_bytes(data)
    refused(folder, words)


@pytest.mark.parametrize(
    ("key", "value"),
    [("temperature", -1), ("temperature", "hot"), ("top_p", 3), ("top_k", 1.5), ("eos_token_id", "x"), ("max_new_tokens", {})],
)
def test_generation_config(key: str, value: Any, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps({key: value}))
    refused(folder, key)


# ---- safetensors and their index --------------------------------------------------------------------------------------

NORM = "model.norm.weight"
HEADERS: list[tuple[dict[str, Any], str]] = [
    ({"data_offsets": [0.0, 64.0]}, "Expected `int`, got `float`"),
    ({"data_offsets": [-64, 0]}, "Expected `int` >= 0"),
    ({"data_offsets": [0, 64]}, "the one before ends at"),
    ({"data_offsets": [1 << 40, (1 << 40) + 64]}, "the one before ends at"),
    ({"data_offsets": [64]}, "Expected `array` of length 2"),
    ({"data_offsets": "0, 64"}, "Expected `array`, got `str`"),
    ({"shape": [-16]}, "Expected `int` >= 0"),
    ({"shape": [-4, -4]}, "Expected `int` >= 0"),
    ({"shape": [2**61, 8]}, "of shape [2305843009213693952, 8]"),
    ({"shape": [16.0]}, "Expected `int`, got `float`"),
    ({"shape": [1] * 100}, "length <= 8"),
    ({"dtype": "F33"}, "of unknown type 'F33'"),
    ({"dtype": 3}, "Expected `str`, got `int`"),
    ({"extra": 3}, "unknown field `extra`"),
]


@pytest.mark.parametrize(("changes", "words"), HEADERS, ids=lambda value: str(value)[:40])
def test_safetensors_header(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    folder, header = write_folder(tmp_path / "model"), header_of(SHAPES)
    write_safetensors(folder / "model.safetensors", header | {NORM: header[NORM] | changes}, bytes(size_of(header)))
    refused(folder, words)


def test_safetensors_files(tmp_path: Path) -> None:
    folder, header = write_folder(tmp_path / "model"), header_of(SHAPES)
    file, data = folder / "model.safetensors", bytes(size_of(header))
    twice = json.dumps(header)[:-1] + f', "{NORM}": {json.dumps(header[NORM])}}}'
    for text, words in (
        (twice.encode(), f"the key '{NORM}' is there twice"),
        (b"{" + b'"a":[' * 2000 + b"]" * 2000 + b"}", "is damaged"),
        (f'{{"a": {DEEP}}}'.encode(), "recursion"),
        (json.dumps(header | {"__metadata__": {"format": 3}}).encode(), "Expected `str`, got `int`"),
        (json.dumps(header | {"__metadata__": [1]}).encode(), "Expected `object`, got `array`"),
        (b'{"\xff": 3}', "is damaged"),
        (b"{}", "bytes follow the last tensor"),
    ):
        write_safetensors(file, text, data)
        refused(folder, words)
    write_safetensors(file, header, data + b"1234")
    refused(folder, "4 bytes follow the last tensor")
    write_safetensors(file, header, data[:-1])
    refused(folder, "is incomplete: it ends before tensor")
    for length in (0, 1, 1 << 63, (1 << 64) - 1, 5 << 20):
        file.write_bytes(struct.pack("<Q", length) + b"{}")
        refused(folder, f"a header of {length} bytes")


def test_a_header_full_of_nothing_costs_little(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    write_safetensors(folder / "model.safetensors", b'{"a":[' + b"[]," * (1 << 20) + b"[]]}", b"")
    refused(folder, "Expected `object`, got `array`")


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({NORM: 3}, "Expected `str`, got `int`"),
        ([], "Expected `object`, got `array`"),
        (None, "Expected `object`, got `null`"),
        ({}, "weight_map must name 1 to 4096 files, got 0"),
        ({NORM: "../model.safetensors"}, "must name .safetensors files beside it"),
        ({NORM: "/etc/passwd"}, "must name .safetensors files beside it"),
        ({NORM: "a\0.safetensors"}, "must name .safetensors files beside it"),
        ({NORM: "x" * 300 + ".safetensors"}, "must name .safetensors files beside it"),
        ({f"w{i}": f"{i}.safetensors" for i in range(1000)}, "and 992 more"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_index(weight_map: Any, words: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", shards=2)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    refused(folder, words)


def test_a_tensor_in_two_files(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", shards=2)
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "model-00003.safetensors")
    (folder / "model.safetensors.index.json").unlink()
    refused(folder, "is in model-00001-of-00002.safetensors too")


# ---- GGUF -------------------------------------------------------------------------------------------------------------

HUGE = struct.pack("<Q", 1 << 63)
KEYS: list[tuple[str, int, Any, str]] = [
    ("llama.attention.head_count", TEXT, "two", "llama.attention.head_count must be an integer from 1 to"),
    ("llama.attention.head_count", U32, 0, "llama.attention.head_count must be an integer from 1 to"),
    ("llama.attention.head_count", I32, -2, "llama.attention.head_count must be an integer from 1 to"),
    ("llama.attention.head_count", ARRAY, (U32, [2, 3]), "differs between layers"),
    ("llama.attention.head_count", ARRAY, (U32, []), "llama.attention.head_count must be an integer"),
    ("llama.attention.head_count", U32, 4, "num_attention_heads, head_dim and hidden_size make"),
    ("llama.attention.head_count_kv", U32, 3, "num_key_value_heads, head_dim and hidden_size make"),
    ("llama.attention.key_length", U32, 1 << 31, "llama.attention.key_length must be an integer from 1 to"),
    ("llama.block_count", U64, 1 << 40, "llama.block_count must be an integer from 1 to"),
    ("llama.block_count", U32, 2, "llama.block_count is 2, its tensors are of 1 blocks"),
    ("llama.embedding_length", U32, 32, "token_embd.weight must be of shape"),
    ("llama.feed_forward_length", U32, 1 << 20, "intermediate_size and hidden_size make"),
    ("llama.context_length", U32, (1 << 32) - 1, "llama.context_length must be an integer from 1 to"),
    ("llama.attention.layer_norm_rms_epsilon", F32, float("nan"), "rms_epsilon must be a number above 0"),
    ("llama.attention.layer_norm_rms_epsilon", F32, float("inf"), "rms_epsilon must be a number above 0"),
    ("llama.rope.freq_base", F32, -1.0, "llama.rope.freq_base must be a number above 0"),
    ("llama.rope.dimension_count", U32, 9, "must be even and at most the head's size, 8"),
    ("llama.rope.scaling.type", TEXT, "spiral", "rope scaling 'spiral' is not supported"),
    ("llama.rope.scaling.type", U32, 7, "rope scaling 7 is not supported"),
    ("llama.rope.scaling.factor", F32, -2.0, "llama.rope.scaling.factor must be a number above 0"),
    ("llama.rope.scale_linear", TEXT, "2", "llama.rope.scale_linear must be a number above 0"),
    ("general.alignment", U32, 0, "general.alignment must be a power of two"),
    ("general.alignment", U32, 24, "general.alignment must be a power of two"),
    ("general.alignment", TEXT, "32", "general.alignment must be a power of two"),
    ("general.architecture", U32, 3, "architecture '3' is not one of llama"),
    ("general.architecture", TEXT, "mamba", "architecture 'mamba' is not one of llama"),
    ("split.count", TEXT, "2", "split.count must be an integer"),
    ("tokenizer.ggml.eos_token_id", TEXT, "2", "tokenizer.ggml.eos_token_id must be an integer"),
    ("x", TEXT, HUGE, "a string of 9223372036854775808 bytes runs past the end"),
    ("x", TEXT, struct.pack("<Q", 4) + b"\xff\xff\xff\xff", "a string is not UTF-8"),
    ("x", ARRAY, struct.pack("<I", TEXT) + HUGE, "an array of strings of"),
    ("x", ARRAY, struct.pack("<I", U64) + HUGE, "an array of"),
    ("x", ARRAY, struct.pack("<IQ", ARRAY, 1) * 3000, "arrays of arrays are not allowed"),
    ("x", ARRAY, struct.pack("<IQ", 99, 2000), "a value of type 99"),
    ("x", ARRAY, struct.pack("<IQ", 99, 2), "a value of type 99"),
    ("x", 13, b"", "a value of type 13"),
]


@pytest.mark.parametrize(("key", "kind", "value", "words"), KEYS, ids=lambda value: str(value)[:30])
def test_gguf_key(key: str, kind: int, value: Any, words: str, tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(gguf_bytes(changed(key, kind, value)))
    refused(file, words)


TENSORS: list[tuple[dict[int, Any], str]] = [
    ({1: []}, "it must have 1 to 4 dimensions, got 0"),
    ({1: [1] * 5}, "it must have 1 to 4 dimensions, got 5"),
    ({1: [0]}, "dimensions must be from 1 on"),
    ({1: [1 << 63, 1 << 63]}, "dimensions must be from 1 on"),
    ({2: 77}, "is of unknown ggml type 77"),
    ({2: 2}, "has rows of 16, not a multiple of 32"),
    ({3: 1 << 40}, "is incomplete: it ends before output_norm.weight"),
    ({3: (1 << 64) - 32}, "is incomplete: it ends before output_norm.weight"),
    ({3: 33}, "not a multiple of 32"),
    ({3: 0}, "within the one before"),
    ({0: "token_embd.weight"}, "'token_embd.weight' is there twice"),
    ({0: "x" * 300}, "length of a string must be at most 256"),
]


@pytest.mark.parametrize(("changes", "words"), TENSORS, ids=lambda value: str(value)[:40])
def test_gguf_tensor(changes: dict[int, Any], words: str, tmp_path: Path) -> None:
    file, tensors = tmp_path / "x.gguf", gguf_tensors()
    tensors[-1] = tuple(changes.get(i, value) for i, value in enumerate(tensors[-1]))  # type: ignore[assignment]
    file.write_bytes(gguf_bytes(tensors=tensors))
    refused(file, words)


def test_gguf_headers(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    for data, words in (
        (b"GGUF", "is damaged or incomplete"),
        (b"GGUF" + struct.pack("<I", 1), "is GGUF version 1"),
        (gguf_bytes(counts=(1 << 63, 3)), "number of tensors must be at most"),
        (gguf_bytes(counts=(3, 1 << 63)), "number of keys must be at most"),
        (gguf_bytes([*GGUF_KEYS, GGUF_KEYS[0]]), "the key 'general.architecture' is there twice"),
        (gguf_bytes(changed("x", TEXT, "y" * (5 << 20))), "length of a string must be at most"),
        (
            gguf_bytes(changed("x", ARRAY, struct.pack("<IQ", TEXT, 3 << 20) + bytes(24 << 20))),
            "strings in arrays in all must be at most",
        ),
        (gguf_bytes(data=0), "is incomplete: it ends before"),
    ):
        file.write_bytes(data)
        refused(file, words)


# ---- anything ---------------------------------------------------------------------------------------------------------

INTEGERS = [-1, 0, 1, 2, 7, 2**16, 2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**12, 10**30]
SCALARS = st.one_of(
    st.sampled_from([*INTEGERS, 0.0, -0.5, 1.5, 1e-320, 1e308, True, False, None, "", "x", "2", "linear", "\0", "é" * 100]),
    st.integers(-10, 100),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=6
)
CONFIG_KEYS = [
    *CONFIG, "rope_parameters", "text_config", "sliding_window", "layer_types", "partial_rotary_factor", "attention_bias",
    "quantization_config", "original_max_position_embeddings", "dtype", "use_sliding_window", "no_rope_layers", "mlp_bias",
    "max_window_layers", "sliding_window_pattern", "attn_logit_softcapping", "query_pre_attn_scalar", "embedding_multiplier",
    "logits_scaling", "hidden_activation", "rope_local_base_freq", "no_rope_layer_interval",
    "num_local_experts", "num_experts_per_tok",
]  # fmt: skip
ROPE_KEYS = [
    "rope_type", "type", "factor", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings", "beta_fast",
    "low_freq_factor", "high_freq_factor", "attention_factor", "short_factor", "long_factor", "truncate", "mscale", "full_attention",
]  # fmt: skip
ROPES = st.dictionaries(
    st.sampled_from(ROPE_KEYS),
    st.sampled_from(["linear", "dynamic", "yarn", "llama3", "longrope", [1.0] * 4]) | VALUES,
    max_size=5,
)
ARCHITECTURES = st.sampled_from(
    ["Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Gemma3", "Granite", "SmolLM3", "Olmo2", "Mixtral"]
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch)


@EXAMPLES
@given(
    st.dictionaries(st.sampled_from(CONFIG_KEYS), VALUES | ROPES, max_size=4),
    st.dictionaries(st.sampled_from(["rope_scaling", "rope_parameters"]), ROPES, max_size=2),
    ARCHITECTURES,
)
def test_any_config(folder: Path, changes: dict[str, Any], ropes: dict[str, Any], architecture: str) -> None:
    config = CONFIG | {"architectures": [f"{architecture}ForCausalLM"]} | changes | ropes
    takes_or_refuses(write_folder(folder / "config", json.dumps(config).encode()))


def spoilt(data: bytes, edits: list[tuple[int, bytes, bool]], length: int) -> bytes:
    """`data` with bytes put in or over at places (counted around), and cut to a share of its length."""
    for place, new, insert in edits:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at if insert else at + len(new) :]
    return data[: len(data) * length // 100]


PATCHES = st.one_of(
    st.binary(min_size=1, max_size=4),
    st.sampled_from([struct.pack("<Q", n) for n in INTEGERS if 0 <= n < 2**64]),
    st.sampled_from([struct.pack("<I", n) for n in (0, 1, 8, 9, 13, 2**31, 2**32 - 1)]),
    st.sampled_from([b"{", b"}", b"[", b"]", b'"', b",", b":", b"-1", b"1e9", b"NaN", b"null", b"[" * 2000, b'{"a":' * 2000]),
)
EDITS = st.lists(st.tuples(st.integers(0, 1 << 16), PATCHES, st.booleans()), min_size=1, max_size=3)
LENGTHS = st.sampled_from([100, 100, 100, 99, 60, 5])


@EXAMPLES
@given(EDITS, LENGTHS)
def test_any_bytes_of_a_config(folder: Path, edits: list[tuple[int, bytes, bool]], length: int) -> None:
    takes_or_refuses(write_folder(folder / "bytes", spoilt(json.dumps(CONFIG).encode(), edits, length)))


@EXAMPLES
@given(
    st.sampled_from(sorted(SHAPES)),
    st.dictionaries(
        st.sampled_from(["dtype", "shape", "data_offsets", "more"]), VALUES | st.lists(SCALARS, max_size=3), max_size=2
    ),
    EDITS | st.just([]),
    LENGTHS,
)
def test_any_safetensors(
    folder: Path, name: str, changes: dict[str, Any], edits: list[tuple[int, bytes, bool]], length: int
) -> None:
    target, header = write_folder(folder / "safetensors"), header_of(SHAPES)
    file = target / "model.safetensors"
    write_safetensors(file, header | {name: header[name] | changes}, bytes(size_of(header)))
    file.write_bytes(spoilt(file.read_bytes(), [(at % 1500, new, insert) for at, new, insert in edits], length))
    takes_or_refuses(target)


@EXAMPLES
@given(st.dictionaries(st.sampled_from(sorted(SHAPES)) | st.text(max_size=5), VALUES, max_size=3), EDITS | st.just([]), LENGTHS)
def test_any_index(folder: Path, changes: dict[str, Any], edits: list[tuple[int, bytes, bool]], length: int) -> None:
    target = write_folder(folder / "index", shards=2)
    file = target / "model.safetensors.index.json"
    index = json.loads(file.read_text())
    index["weight_map"] |= changes
    file.write_bytes(spoilt(json.dumps(index).encode(), edits, length))
    takes_or_refuses(target)


KINDS = st.sampled_from([0, U32, I32, F32, 7, TEXT, U64])
GGUF_VALUES = st.one_of(
    st.tuples(st.just(U32), st.integers(0, 2**32 - 1) | st.integers(0, 40)),
    st.tuples(st.just(I32), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just(F32), st.floats(width=32)),
    st.tuples(st.just(U64), st.sampled_from([n for n in INTEGERS if 0 <= n < 2**64])),
    st.tuples(st.just(TEXT), st.text(max_size=10)),
    st.tuples(st.just(ARRAY), st.tuples(st.just(U32), st.lists(st.integers(0, 40), max_size=3))),
    st.tuples(st.just(ARRAY), st.tuples(st.just(TEXT), st.lists(st.text(max_size=3), max_size=3))),
    st.tuples(st.just(ARRAY), st.binary(min_size=12, max_size=40)),
)
GGUF_NAMES = [key for key, _, _ in GGUF_KEYS] + [
    "llama.rope.scaling.type", "llama.rope.scaling.factor", "llama.rope.scale_linear", "llama.vocab_size", "split.count",
    "llama.rope.scaling.original_context_length", "llama.attention.sliding_window", "general.sampling.temp",
]  # fmt: skip


@EXAMPLES
@given(
    st.dictionaries(st.sampled_from(GGUF_NAMES), GGUF_VALUES, max_size=3),
    st.integers(0, len(SHAPES) - 1),
    st.dictionaries(st.integers(1, 3), st.sampled_from(INTEGERS[1:-4]) | st.lists(st.integers(0, 40), max_size=5), max_size=2),
    EDITS | st.just([]),
    LENGTHS,
)
def test_any_gguf(
    folder: Path,
    keys: dict[str, tuple[int, Any]],
    which: int,
    changes: dict[int, Any],
    edits: list[tuple[int, bytes, bool]],
    length: int,
) -> None:
    tensors = gguf_tensors()
    name, shape, kind, offset = tensors[which]
    new_shape, new_kind, new_offset = changes.get(1, shape), changes.get(2, kind), changes.get(3, offset)
    tensors[which] = (
        name,
        new_shape if isinstance(new_shape, list) else shape,
        new_kind % 2**32 if isinstance(new_kind, int) else kind,
        new_offset % 2**64 if isinstance(new_offset, int) else offset,
    )
    table = [(key, *keys[key]) if key in keys else (key, kind, value) for key, kind, value in GGUF_KEYS]
    table += [(key, *value) for key, value in keys.items() if key not in {entry[0] for entry in GGUF_KEYS}]
    data = gguf_bytes(table, tensors)
    file = folder / "any.gguf"
    file.write_bytes(spoilt(data, [(at % 1800, new, insert) for at, new, insert in edits], length))
    takes_or_refuses(file)
