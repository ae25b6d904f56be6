"""EngineArgs: ranges, the defaults it resolves, and what it says about options it cannot honour."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import logging
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from octavo import envs
from octavo.config import EngineArgs, EngineConfig
from octavo.config.foreign_args import FOREIGN_ARGS, check_foreign
from octavo.config.machine import available_cpus
from octavo.config.resolve import model_context_length
from octavo.config.sizes import parse_bytes, parse_length
from octavo.errors import ConfigError
from octavo.frontend.input_processor import default_sampling_params
from octavo.sources.cache_folder import writing_into
from octavo.sources.hf_config import with_overrides
from octavo.sources.rope import rope_parameters


def make(model: Path, **options: Any) -> EngineConfig:
    return EngineArgs(model=str(model), **{"device": "cpu", **options}).create_engine_config()


@pytest.mark.parametrize(("isa", "dtype"), [("avx512_bf16", "bfloat16"), ("avx512", "float32"), ("portable", "float32")])
def test_auto_computes_in_what_the_instruction_set_multiplies(
    isa: str, dtype: str, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_CPU_ISA", isa)
    config = make(tiny_model_dir)
    assert (config.model.dtype, config.cache.dtype) == (dtype, dtype)


@pytest.mark.parametrize(
    ("isa", "saved", "dtype"),
    [
        ("amx", "bfloat16", "bfloat16"),
        ("amx", "float32", "float32"),
        ("avx512_bf16", "bfloat16", "float32"),
        ("avx2", "float16", "float32"),
    ],
)
def test_auto_pools_in_float32_unless_tiles_are_faster(
    isa: str, saved: str, dtype: str, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_CPU_ISA", isa)
    args = EngineArgs(model=str(tiny_model_dir), device="cpu", runner="pooling", hf_overrides={"dtype": saved})
    assert args.create_engine_config().model.dtype == dtype


BAD_VALUES: list[tuple[str, Any]] = [
    ("gpu_memory_utilization", 0.0),
    ("gpu_memory_utilization", 1.01),
    ("block_size", 0),
    ("max_num_seqs", 0),
    ("max_num_batched_tokens", 0),
    ("num_gpu_blocks_override", 1),
    ("stream_interval", 0),
    ("num_threads", 0),
    ("max_num_queued_reqs", -1),
    ("max_num_queued_tokens", 0),
    ("long_prefill_token_threshold", -1),
    ("max_logprobs", -2),
    ("seed", 2**63),
    ("seed", -(2**63) - 1),
    ("num_threads", 4097),
    ("block_size", 2**64),
    ("max_num_seqs", 2**31),
    ("max_num_batched_tokens", 2**64),
    ("max_num_queued_tokens", 2**64),
    ("kv_cache_memory_bytes", "9" * 400),
    ("served_model_name", [""]),
    ("served_model_name", ["m", "a\nb"]),
    ("dtype", "int4"),
    ("device", "tpu"),
    ("load_format", "pickle"),
    ("kv_cache_dtype", "fp4"),
    ("scheduling_policy", "random"),
    ("logprobs_mode", "none"),
    ("distributed_executor_backend", "ray"),
    ("max_model_len", 4096),
    ("max_model_len", "many"),
    ("max_model_len", 0),
    ("kv_cache_memory_bytes", "lots"),
    ("kv_cache_memory_bytes", "0"),
    ("generation_config", "/no/such/folder"),
]


@pytest.mark.parametrize(("name", "value"), BAD_VALUES, ids=[f"{name}={value}" for name, value in BAD_VALUES])
def test_bad_value_names_the_flag(tiny_model_dir: Path, name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        make(tiny_model_dir, **{name: value})
    assert "--" + name.replace("_", "-") in str(caught.value)


def test_missing_model_is_named() -> None:
    with pytest.raises(ConfigError, match="no-such-folder"):
        make(Path("/no-such-folder/model"))


def test_defaults_on_a_cpu(tiny_model_dir: Path) -> None:
    config = make(tiny_model_dir)
    assert config.model.max_model_len == 2048
    assert config.model.fit_max_model_len
    assert config.model.vocab_size == 576
    assert config.model.architecture == "LlamaForCausalLM"
    assert config.model.eos_token_ids == (2,)
    assert config.model.served_model_names == (str(tiny_model_dir),)
    assert config.cache.block_size == 32
    assert config.cache.dtype == config.model.dtype
    assert config.cache.enable_prefix_caching
    assert config.scheduler.max_num_seqs == 128
    assert config.scheduler.max_num_batched_tokens == 2048
    assert config.scheduler.policy == "fcfs"


def test_given_values_arrive(tiny_model_dir: Path) -> None:
    config = make(
        tiny_model_dir,
        max_model_len="1k",
        served_model_name=["a", "b"],
        dtype="half",
        kv_cache_memory_bytes="64M",
        max_num_seqs=4,
        max_num_batched_tokens=64,
        scheduling_policy="priority",
        seed=7,
    )
    assert (config.model.max_model_len, config.model.fit_max_model_len) == (1024, False)
    assert config.model.served_model_names == ("a", "b")
    assert config.model.dtype == "float16"
    assert config.cache.memory_bytes == 64 * 2**20
    assert (config.scheduler.max_num_seqs, config.scheduler.max_num_batched_tokens) == (4, 64)
    assert config.scheduler.policy == "priority"
    assert config.model.seed == 7


def test_token_budget_must_hold_the_batch(tiny_model_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"--max-num-batched-tokens 4 .* --max-num-seqs 8"):
        make(tiny_model_dir, max_num_batched_tokens=4, max_num_seqs=8)


def test_without_chunking_the_budget_holds_a_whole_prompt(tiny_model_dir: Path) -> None:
    config = make(tiny_model_dir, enable_chunked_prefill=False)
    assert config.scheduler.max_num_batched_tokens >= config.model.max_model_len
    with pytest.raises(ConfigError, match="--no-enable-chunked-prefill"):
        make(tiny_model_dir, enable_chunked_prefill=False, max_num_batched_tokens=100, max_num_seqs=8)


def test_overrides_are_merged(tiny_model_dir: Path) -> None:
    config = make(
        tiny_model_dir,
        hf_overrides={"max_position_embeddings": 4096, "rope_parameters": {"factor": 2.0}},
        override_generation_config={"temperature": 0.5},
    )
    assert config.model.max_model_len == 4096
    assert config.model.hf_config["rope_parameters"]["factor"] == 2.0
    assert config.model.hf_config["rope_parameters"]["rope_type"] == "default"
    assert config.model.generation_config["temperature"] == 0.5


def test_generation_config_from_a_folder_or_not_at_all(tiny_model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps({"top_k": 3, "eos_token_id": [2, 5]}))
    assert make(tiny_model_dir, generation_config=str(tmp_path)).model.generation_config["top_k"] == 3
    assert make(tiny_model_dir, generation_config=str(tmp_path)).model.eos_token_ids == (2, 5)
    bare = make(tiny_model_dir, generation_config="octavo", override_generation_config={}).model
    assert set(bare.generation_config) <= {"eos_token_id"}
    assert bare.eos_token_ids == (2,)


def test_config_survives_the_wire(tiny_model_dir: Path) -> None:
    config = make(tiny_model_dir, served_model_name=["a"], kv_cache_memory_bytes=2**30)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(config), type=EngineConfig) == config


@pytest.mark.parametrize(
    ("text", "tokens"),
    [(8192, 8192), ("8192", 8192), ("8k", 8192), ("8K", 8192), ("1.5k", 1536), ("1M", 2**20), (None, None), ("auto", None)],
)
def test_parse_length(text: int | str | None, tokens: int | None) -> None:
    assert parse_length(text) == tokens


@pytest.mark.parametrize(("text", "size"), [("1G", 2**30), ("1GiB", 2**30), ("512mb", 2**29), (4096, 4096), (None, None)])
def test_parse_bytes(text: int | str | None, size: int | None) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "-5", "8x", "k", "1e3", "0"])
def test_parse_bytes_refuses(text: str) -> None:
    with pytest.raises(ConfigError, match="--kv-cache-memory-bytes"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 100}, 100),
        ({"n_positions": 50}, 50),
        ({"max_position_embeddings": 100, "rope_scaling": {"type": "linear", "factor": 4}}, 400),
        ({"seq_length": 400, "rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 100}}, 400),
        (
            {
                "max_position_embeddings": 100,
                "rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4},
            },
            100,
        ),
        ({"max_position_embeddings": 100, "rope_scaling": {"rope_type": "default"}}, 100),
    ],
)
def test_context_length(config: dict[str, Any], length: int) -> None:
    assert model_context_length(config) == length


def test_context_length_unknown() -> None:
    with pytest.raises(ConfigError, match="--hf-overrides"):
        model_context_length({})


def test_unknown_argument() -> None:
    with pytest.raises(TypeError, match="max_modle_len"):
        EngineArgs.from_kwargs(max_modle_len=5)


def test_arguments_without_effect_say_so_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.WARNING, logger="octavo.config.foreign_args")
    monkeypatch.setattr("octavo.config.foreign_args._told", set())
    foreign = {"compilation_config": 3, "attention_backend": "FLASH_ATTN", "optimization_level": 2, "enforce_eager": False}
    for _ in range(2):
        args = EngineArgs.from_kwargs(model="m", trust_remote_code=True, tensor_parallel_size=1, **foreign)
        assert args == EngineArgs(model="m")
    assert caplog.text.count("--trust-remote-code has no effect") == 1
    assert caplog.text.count("has no effect") == 4, "one line each; enforce_eager=False asks for nothing"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tensor_parallel_size", 2),
        ("data_parallel_size", 2),
        ("enable_lora", True),
        ("speculative_config", {"method": "ngram"}),
        ("cpu_offload_gb", 4),
        ("logits_processors", ["x:Y"]),
    ],
)
def test_what_cannot_be_honoured_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match="--" + name.replace("_", "-")):
        EngineArgs.from_kwargs(**{name: value})


def test_every_foreign_argument_may_ask_for_nothing() -> None:
    for name in FOREIGN_ARGS:
        check_foreign(name, None)


def test_own_parser_gets_the_flags_and_gives_them_back(tiny_model_dir: Path) -> None:
    parser = EngineArgs.add_cli_args(argparse.ArgumentParser())
    parser.add_argument("--max-tokens", type=int, default=5)
    parser.set_defaults(model=str(tiny_model_dir))
    given = parser.parse_args(["--max-model-len", "64", "--tensor-parallel-size", "1", "--no-enable-prefix-caching"])
    assert (given.max_num_seqs, given.max_tokens, given.block_size) == (None, 5, None), "defaults are in the namespace"
    args = EngineArgs.from_cli_args(given)
    assert args == EngineArgs(model=str(tiny_model_dir), max_model_len=64, enable_prefix_caching=False)
    assert args.create_engine_config().model.max_model_len == 64
    with pytest.raises(ConfigError, match="--tensor-parallel-size is not supported"):
        EngineArgs.from_cli_args(parser.parse_args(["-tp", "2"]))
    plain = argparse.ArgumentParser()
    assert EngineArgs.add_cli_args(plain, async_args_only=True).parse_args([]) == argparse.Namespace()


def test_defaults_of_lists_and_objects_are_each_parsers_own() -> None:
    for _ in range(2):
        parser = EngineArgs.add_cli_args(argparse.ArgumentParser())
        given = parser.parse_args(["--served-model-name", "a", "--hf-overrides", '{"x": 1}'])
        assert (given.served_model_name, given.hf_overrides) == (["a"], {"x": 1})


def test_generation_config_sets_penalties_and_special_tokens(tiny_model_dir: Path) -> None:
    overrides = {"presence_penalty": 0.5, "frequency_penalty": -0.25, "skip_special_tokens": False, "max_new_tokens": 7}
    config = EngineArgs(model=str(tiny_model_dir), override_generation_config=overrides).create_engine_config()
    params = default_sampling_params(config)
    assert (params.presence_penalty, params.frequency_penalty) == (0.5, -0.25)
    assert (params.skip_special_tokens, params.max_tokens) == (False, 7)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ({"temprature": 1.0}, "unknown key 'temprature'; did you mean 'temperature'"),
        ({"max_tokens": 5}, "did you mean 'max_new_tokens'"),
        ({"zzz": 5}, "known are .*temperature"),
        ({"top_p": 2}, r"top_p must be in \(0, 1\]"),
    ],
)
def test_override_that_would_do_nothing_is_refused(tiny_model_dir: Path, overrides: dict[str, Any], problem: str) -> None:
    args = EngineArgs(model=str(tiny_model_dir), override_generation_config=overrides)
    with pytest.raises(ConfigError, match=f"--override-generation-config: .*{problem}"):
        args.create_engine_config()


def test_override_known_to_do_nothing_is_logged(tiny_model_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    EngineArgs(model=str(tiny_model_dir), override_generation_config={"do_sample": True}).create_engine_config()
    assert "do_sample has no effect" in caplog.text


def test_overrides_of_the_config_are_an_object() -> None:
    with pytest.raises(ConfigError, match=r"--hf-overrides must be an object.*got a function"):
        EngineArgs(hf_overrides=lambda config: config).create_engine_config()  # type: ignore[arg-type]


def test_quantization_is_for_a_cpu(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.config.early_checks._CUDA_DEVICES", ("/",))
    args = EngineArgs(model=str(tiny_model_dir), device="cpu", quantization="int8")
    assert args.create_engine_config().model.quantization == "int8"
    for changes, problem in (({"quantization": "int5"}, "must be one of int8, gguf"), ({"device": "cuda"}, "--device cpu")):
        with pytest.raises(ConfigError, match=f"--quantization.*{problem}"):
            dataclasses.replace(args, **changes).create_engine_config()


def test_no_option_is_both_known_and_without_effect() -> None:
    assert not {field.name for field in dataclasses.fields(EngineArgs)} & set(FOREIGN_ARGS)


def test_every_option_has_help() -> None:
    for field in dataclasses.fields(EngineArgs):
        assert field.metadata["help"].endswith("."), field.name


def test_environment_variables_are_parsed_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_NUM_THREADS", "3")
    assert envs.NUM_THREADS == 3
    assert available_cpus() == 3
    monkeypatch.delenv("OCTAVO_NUM_THREADS")
    assert envs.NUM_THREADS is None
    assert available_cpus() >= 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("NUM_THREADS", "many"), ("NUM_THREADS", "0"), ("NUM_THREADS", "-1"), ("NUM_THREADS", "1000000000"), ("KERNELS", "cuda"),
        ("OFFLINE", "maybe"), ("LOG_STATS_INTERVAL", "often"), ("STEP_TIMEOUT", "nan"), ("START_TIMEOUT", "-1"),
        ("START_TIMEOUT", "inf"), ("STEP_TIMEOUT", ""), ("CACHE_DIR", ""), ("LOG_LEVEL", "loud"), ("SERVER_DEV_MODE", "2"),
    ],
)  # fmt: skip
def test_malformed_environment_variable_is_an_error_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv("OCTAVO_" + name, text)
    with pytest.raises(ConfigError, match=f"OCTAVO_{name}"):
        envs.get(name)
    with pytest.raises(ConfigError, match=f"OCTAVO_{name}"):
        EngineArgs(model="/no/such/model").create_engine_config()


def test_unknown_environment_variable() -> None:
    with pytest.raises(AttributeError):
        _ = envs.NO_SUCH_VARIABLE


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"chat_template": "/no/such/template.jinja"}, "--chat-template: cannot read"),
        ({"chat_template": "/"}, "--chat-template: cannot read"),
        ({"chat_template": "a\0b"}, "--chat-template: cannot read"),
        ({"kv_cache_memory_bytes": "lots"}, "--kv-cache-memory-bytes must be"),
        ({"max_model_len": "long"}, "--max-model-len must be"),
        ({"gpu_memory_utilization": 2.0}, "--gpu-memory-utilization must be"),
        ({"device": "cuda"}, "--device cuda: this machine has no NVIDIA driver"),
        ({"generation_config": "/no/such"}, "--generation-config: no file"),
        ({"download_dir": "/dev/null/models"}, "--download-dir: /dev/null/models cannot be a folder"),
    ],
)
def test_options_are_checked_before_the_model_is_looked_for(
    options: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octavo.config.early_checks._CUDA_DEVICES", ())
    with pytest.raises(ConfigError, match=words):
        make(Path("/no/such/model"), **options)


def test_the_cache_folder_is_checked_before(tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("OCTAVO_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(ConfigError, match="OCTAVO_CACHE_DIR"):
        make(tiny_model_dir)
    monkeypatch.setenv("OCTAVO_CACHE_DIR", str(tmp_path / "new" / "cache"))
    make(tiny_model_dir)
    assert not (tmp_path / "new").exists(), "a check makes nothing"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kv_cache_memory_bytes": "1000000G"}, "of this machine: lower --kv-cache-memory-bytes"),
        ({"num_gpu_blocks_override": 10**9}, "of this machine: lower --num-gpu-blocks-override"),
        ({"num_gpu_blocks_override": 2, "max_model_len": 2000}, "raise --num-gpu-blocks-override to 63 or more"),
        ({"kv_cache_memory_bytes": 100, "max_model_len": 2000}, "raise --kv-cache-memory-bytes to"),
    ],
)
def test_the_size_of_the_cache_is_checked_before_weights_are_read(
    options: dict[str, Any], words: str, tiny_model_dir: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        make(tiny_model_dir, **options)


def test_a_window_needs_as_much_cache_as_it_holds(tiny_model_dir: Path) -> None:
    local = {"hf_overrides": {"architectures": ["MistralForCausalLM"], "sliding_window": 64}, "max_num_batched_tokens": 32}
    needed = (64 + 32 - 3 + 32) // 32 + 1
    assert (
        make(tiny_model_dir, max_model_len=2000, num_gpu_blocks_override=needed, max_num_seqs=4, **local).cache.num_blocks == 4
    )
    with pytest.raises(
        ConfigError, match=f"one sequence of --max-model-len 2000 .* raise --num-gpu-blocks-override to {needed} or"
    ):
        make(tiny_model_dir, max_model_len=2000, num_gpu_blocks_override=needed - 1, max_num_seqs=4, **local)


ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
DEFAULT = {"rope_type": "default", "rope_theta": 5e5}
LINEAR = {"rope_type": "linear", "factor": 4.0}


@pytest.mark.parametrize(
    ("config", "changes", "expected"),
    [
        # As GGUF files and transformers 5 have it; the user as always.
        ({"rope_parameters": DEFAULT}, {"rope_scaling": LINEAR}, DEFAULT | LINEAR),
        ({"rope_parameters": DEFAULT}, {"rope_scaling": {"type": "linear", "factor": 4.0}}, DEFAULT | LINEAR),
        ({"rope_parameters": DEFAULT}, {"rope_parameters": LINEAR}, DEFAULT | LINEAR),
        # As older versions have it.
        ({"rope_theta": 5e5, "rope_scaling": None}, {"rope_scaling": LINEAR}, DEFAULT | LINEAR),
        ({"rope_theta": 5e5}, {"rope_parameters": LINEAR}, DEFAULT | LINEAR),
        # Both in one file: what was added by hand counts.
        ({"rope_parameters": DEFAULT, "rope_scaling": LINEAR}, {}, DEFAULT | LINEAR),
        ({"rope_parameters": DEFAULT, "rope_scaling": None}, {}, DEFAULT),
        # Another type leaves nothing of the one before, the same type or none changes parameters.
        ({"rope_theta": 5e5, "rope_scaling": ROPE}, {"rope_scaling": LINEAR}, DEFAULT | LINEAR),
        ({"rope_theta": 5e5, "rope_scaling": ROPE}, {"rope_parameters": {"factor": 2.0}}, DEFAULT | ROPE | {"factor": 2.0}),
        ({"rope_parameters": DEFAULT | LINEAR}, {"rope_scaling": {"factor": 2.0}}, DEFAULT | LINEAR | {"factor": 2.0}),
        # Off, and another base.
        ({"rope_theta": 5e5, "rope_scaling": ROPE}, {"rope_scaling": None}, DEFAULT),
        ({"rope_parameters": DEFAULT | LINEAR}, {"rope_scaling": None}, DEFAULT),
        ({"rope_parameters": DEFAULT}, {"rope_theta": 1e6}, {"rope_type": "default", "rope_theta": 1e6}),
        ({"rope_theta": 5e5}, {"rope_theta": 1e6}, {"rope_type": "default", "rope_theta": 1e6}),
    ],
)
def test_rope_is_read_alike_however_it_is_spelled(
    config: dict[str, Any], changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    merged = with_overrides({"max_position_embeddings": 512} | config, changes)
    read = rope_parameters(merged)
    sizes = {"max_position_embeddings": 512, "original_max_position_embeddings": 512, "partial_rotary_factor": 1.0}
    assert read == sizes | expected
    assert "rope_scaling" not in merged
    factor = expected.get("factor", 1.0) if expected["rope_type"] == "linear" else 1.0
    assert model_context_length(merged) == 512 * factor


def test_rope_of_layer_types_is_changed_for_the_global_ones() -> None:
    local = {"rope_type": "default", "rope_theta": 1e4}
    config = {"max_position_embeddings": 512, "rope_parameters": {"sliding_attention": local, "full_attention": DEFAULT}}
    merged = with_overrides(config, {"rope_scaling": LINEAR})
    assert merged["rope_parameters"] == {"sliding_attention": local, "full_attention": DEFAULT | LINEAR}
    own = with_overrides(config, {"rope_parameters": {"sliding_attention": {"rope_theta": 2e4}}})
    assert own["rope_parameters"] == {"sliding_attention": local | {"rope_theta": 2e4}, "full_attention": DEFAULT}


def test_overrides_reach_the_part_that_describes_the_text_model() -> None:
    inner = {"max_position_embeddings": 512, "rope_parameters": DEFAULT}
    merged = with_overrides({"text_config": inner, "x": 1}, {"text_config": {"rope_scaling": LINEAR}, "x": 2})
    assert merged == {"text_config": {"max_position_embeddings": 512, "rope_parameters": DEFAULT | LINEAR}, "x": 2}


def test_the_architecture_is_checked_before_anything_else_of_its_config(tiny_model_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"'MambaForCausalLM' is not supported; known are .*, Gemma2ForCausalLM, "):
        make(tiny_model_dir, hf_overrides={"architectures": ["MambaForCausalLM"], "vocab_size": -1})


def test_a_full_disk_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"OCTAVO_CACHE_DIR.*{tmp_path}.*No space left"), writing_into(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "file"))
