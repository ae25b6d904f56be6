"""Configuration in one place: `EngineArgs` is what a user says, `EngineConfig` what every process works with.

Each option is one field of `EngineArgs` with its help text: the command line, `LLM(...)` and the docs are made from it.
`EngineConfig` is frozen and travels to the core process as one msgpack document.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from octavo import early_checks, envs, foreign_envs
from octavo.checked import LARGEST_LENGTH, Fields, shown
from octavo.early_checks import check_cache_size
from octavo.errors import ConfigError
from octavo.foreign_args import FOREIGN_ARGS, SAME_VALUES, check_foreign, own_value
from octavo.generation_config import check_overrides
from octavo.hf_config import (
    architecture_of,
    check_config,
    check_generation_config,
    merge,
    text_config,
    token_ids,
    with_overrides,
)
from octavo.model_source import DEFAULT_MODEL, ModelFiles, find_model
from octavo.rope import context_length
from octavo.short_names import names_of
from octavo.strict_json import read_object
from octavo.suggestions import did_you_mean
from octavo.weights_check import check_weights

LogprobsMode = Literal["raw_logprobs", "processed_logprobs", "raw_logits", "processed_logits"]


class ModelConfig(msgspec.Struct, frozen=True):
    """Which model, and what is known of it before its weights are read."""

    name: str
    """As the user wrote it: hub id or path."""
    path: str
    """Local folder, or the GGUF file itself."""
    format: Literal["safetensors", "gguf", "dummy"]
    hf_config: dict[str, Any]
    """config.json (read, or made from GGUF metadata), after hf_overrides; nested text_config is kept nested."""
    architecture: str
    """First entry of `architectures`; the key into the model registry."""
    dtype: Literal["float32", "bfloat16", "float16"]
    max_model_len: int
    fit_max_model_len: bool
    """The user named no length: the core may lower max_model_len to what the KV cache holds, instead of refusing to start."""
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    generation_config: dict[str, Any]
    """Sampling defaults of the model (temperature, top_p, ...), {} with --generation-config octavo."""
    tokenizer_path: str
    """Local folder with tokenizer.json, or a GGUF file."""
    served_model_names: tuple[str, ...]
    seed: int = 0
    max_logprobs: int = 20
    logprobs_mode: LogprobsMode = "raw_logprobs"
    skip_tokenizer_init: bool = False
    chat_template: str | None = None
    """A template's text or path that replaces the model's own."""
    quantization: Literal["int8", "gguf"] | None = None
    """What weights are turned into while they are loaded; None leaves them as they are."""


class CacheConfig(msgspec.Struct, frozen=True):
    """The paged KV cache."""

    block_size: int
    """Tokens a block."""
    dtype: Literal["float32", "bfloat16", "float16"]
    memory_utilization: float
    """Share of the device's free memory that weights and cache may take; on a CPU, that the cache may take."""
    memory_bytes: int | None
    """Exact size instead."""
    num_blocks: int | None
    """Exact number of blocks instead."""
    enable_prefix_caching: bool


class SchedulerConfig(msgspec.Struct, frozen=True):
    """What a step may hold, and who goes first."""

    max_num_seqs: int
    max_num_batched_tokens: int
    """The token budget of one step."""
    enable_chunked_prefill: bool
    long_prefill_token_threshold: int
    """Most tokens of one prompt in a step; 0 = the budget."""
    policy: Literal["fcfs", "priority"]
    async_scheduling: bool
    max_num_queued_reqs: int
    max_num_queued_tokens: int | None
    stream_interval: int

    @property
    def max_chunk(self) -> int:
        """Most tokens of one request in a step."""
        threshold = self.long_prefill_token_threshold if self.enable_chunked_prefill else 0
        return min(self.max_num_batched_tokens, threshold or self.max_num_batched_tokens)


class DeviceConfig(msgspec.Struct, frozen=True):
    """Where the model runs."""

    type: Literal["cpu", "cuda"]
    num_threads: int
    """Compute threads on a CPU."""
    executor: Literal["uni"]


class EngineConfig(msgspec.Struct, frozen=True):
    """Everything the engine's processes need to know; made by `EngineArgs.create_engine_config`."""

    model: ModelConfig
    cache: CacheConfig
    scheduler: SchedulerConfig
    device: DeviceConfig
    log_stats: bool = True
    max_core_restarts: int = 5
    """Deaths of the core by itself within ten minutes after which another one is started; 0 = never, whatever killed it."""
    spare_core: bool = False


def option(default: Any, help_text: str, *, choices: tuple[str, ...] = (), flag: str = "") -> Any:
    """A dataclass field with what the command line needs: help text, choices, another spelling of the flag."""
    metadata = {"help": help_text, "choices": choices, "flag": flag}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class EngineArgs:
    """Options of the engine, with vLLM's names where it has the option too."""

    model: str = option(DEFAULT_MODEL, "Hub id, local folder, .gguf file, or short name of the model.")
    tokenizer: str | None = option(None, "Hub id or folder of another tokenizer.")
    skip_tokenizer_init: bool = option(False, "Token ids in, token ids out; no text.")
    revision: str | None = option(None, "Branch, tag or commit of the model on the hub.")
    tokenizer_revision: str | None = option(None, "Branch, tag or commit of the tokenizer on the hub.")
    hf_token: str | None = option(None, "Token for the model hub.")
    hf_overrides: dict[str, Any] = option({}, "JSON merged into the model's config.json.")
    download_dir: str | None = option(None, "Where to keep files from the hub; unset = the hub library's own cache.")
    load_format: str = option(
        "auto", "Format of the weights; dummy = random ones.", choices=("auto", "safetensors", "gguf", "dummy")
    )
    dtype: str = option(
        "auto",
        "Type of weights and activations; auto = the checkpoint's 16-bit type where the processor computes in it.",
        choices=("auto", "float32", "bfloat16", "float16", "half", "float"),
    )
    quantization: str | None = option(
        None,
        "Turn the weights into this while loading; int8 = products in 8 bits, a scale a row of weights and activations; gguf = products with a GGUF file's blocks as they are, activations in 8 bits.",
        choices=("int8", "gguf"),
        flag="-q",
    )
    device: str = option("auto", "Where to run.", choices=("auto", "cpu", "cuda"))
    seed: int = option(0, "Seed of dummy weights; a request brings its own seed, or gets a random one.")
    max_model_len: int | str | None = option(
        None,
        "Longest prompt plus output in tokens (8k = 8192); unset or auto = the model's own, or less where memory is short.",
    )
    served_model_name: list[str] = option([], "Names the model answers to; unset = --model.")
    max_logprobs: int = option(20, "Most logprobs a request may ask for; -1 = the vocabulary.")
    logprobs_mode: str = option(
        "raw_logprobs",
        "What logprobs are: before or after penalties, normalized or not.",
        choices=("raw_logprobs", "processed_logprobs", "raw_logits", "processed_logits"),
    )
    generation_config: str = option(
        "auto", "auto = the model's sampling defaults, octavo = none, or a folder to read them from."
    )
    override_generation_config: dict[str, Any] = option({}, "JSON merged into the generation config.")
    chat_template: str | None = option(None, "Chat template, as text or file; unset = the model's.")
    gpu_memory_utilization: float | None = option(
        None,
        "Share of the device's free memory for weights and KV cache; unset = 0.9 on GPU, 0.25 (for the cache alone) on CPU.",
        flag="--device-memory-utilization",
    )
    kv_cache_memory_bytes: int | str | None = option(None, "Exact size of the KV cache (2G = 2 GiB).")
    num_gpu_blocks_override: int | None = option(None, "Exact number of KV blocks, for all kinds of layers together.")
    block_size: int | None = option(
        None, "Tokens a KV block; unset = 32 on CPU, 16 on GPU. CPUs with AMX are fastest with multiples of 32."
    )
    kv_cache_dtype: str = option(
        "auto", "Type of the KV cache; auto = --dtype.", choices=("auto", "float32", "bfloat16", "float16")
    )
    enable_prefix_caching: bool = option(True, "Reuse KV blocks of equal prompt beginnings.")
    max_num_seqs: int | None = option(None, "Sequences in a step; unset = 128 on CPU, 256 on GPU.")
    max_num_batched_tokens: int | None = option(None, "Tokens in a step; unset = 2048 on CPU, 8192 on GPU.")
    enable_chunked_prefill: bool = option(True, "Split long prompts over steps.")
    long_prefill_token_threshold: int = option(0, "Most tokens of one prompt in a step; 0 = no limit but the budget.")
    scheduling_policy: str = option("fcfs", "Order of waiting requests.", choices=("fcfs", "priority"))
    async_scheduling: bool = option(True, "Schedule the next step while this one runs.")
    max_num_queued_reqs: int = option(1024, "Requests that may wait; one more is refused with 429. 0 = no limit.")
    max_num_queued_tokens: int | None = option(None, "Prompt tokens that may wait; beyond, requests are refused with 429.")
    stream_interval: int = option(1, "Tokens a streamed chunk; a request may ask for more, not for fewer.")
    distributed_executor_backend: str = option("auto", "Executor.", choices=("auto", "uni"))
    num_threads: int | None = option(None, "Compute threads on a CPU; unset = the processors this process may use.")
    max_core_restarts: int = option(
        5,
        "How often within 10 minutes the engine core may die by itself (a crash, no memory) and is started again, its requests going on where they were; once more ends the engine. Kills from outside do not count. 0 = any death ends the engine.",
    )
    spare_core: bool = option(
        False,
        "Keep a second core process, its imports done, to take a dead one's place sooner (1 to 2 s less); it costs about 130 MB.",
    )
    disable_log_stats: bool = option(False, "No statistics in the log.")

    def __post_init__(self) -> None:
        for name, table in SAME_VALUES.items():
            value = getattr(self, name)
            if isinstance(value, str):
                setattr(self, name, table.get(value, value))

    @classmethod
    def from_kwargs(cls, **kwargs: Any) -> EngineArgs:
        """Make one from keyword arguments, vLLM's without effect here included.

        Raises:
            TypeError: an unknown name.
            ConfigError: a value that this version cannot honour.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        given = {}
        for name, value in kwargs.items():
            if name in known:
                given[name] = own_value(name, value)
            elif name in FOREIGN_ARGS:
                check_foreign(name, value)
            else:
                raise TypeError(f"unknown engine argument {name!r}{did_you_mean(name, known)}")
        return cls(**given)

    @staticmethod
    def add_cli_args(parser: argparse.ArgumentParser, async_args_only: bool = False) -> argparse.ArgumentParser:
        """Add a flag for every field to a program's own parser, with the fields' defaults; vLLM's flags are accepted too.

        Args:
            parser: changed, and returned.
            async_args_only: add nothing: no option here is only an AsyncLLM's.
        """
        from octavo.flags import add_flags, add_foreign

        if not async_args_only:
            add_flags(parser, EngineArgs, "engine options", with_defaults=True)
            add_foreign(parser)
        return parser

    @classmethod
    def from_cli_args(cls, args: argparse.Namespace) -> EngineArgs:
        """Make one from parsed arguments; what is no engine argument is the program's own and left alone.

        Raises:
            ConfigError: a value that this version cannot honour.
        """
        known = {*FOREIGN_ARGS, *(f.name for f in dataclasses.fields(cls))}
        return cls.from_kwargs(**{name: value for name, value in vars(args).items() if name in known})

    def create_engine_config(self) -> EngineConfig:
        """Resolve the model's files (downloading if need be) and every default.

        Raises:
            ConfigError: naming the flag to change.
        """
        self.check()
        device = self._device_config()
        files = find_model(
            self.model,
            revision=self.revision,
            load_format=self.load_format,
            token=self.hf_token,
            download_dir=self.download_dir,
        )
        model = self._model_config(files, device.type)
        cache = self._cache_config(model, device.type)
        scheduler = self._scheduler_config(model, device.type)
        check_cache_size(model, cache, scheduler, device.type == "cpu")
        return EngineConfig(
            model=model,
            cache=cache,
            scheduler=scheduler,
            device=device,
            log_stats=not self.disable_log_stats,
            max_core_restarts=self.max_core_restarts,
            spare_core=self.spare_core,
        )

    def check(self) -> None:
        """What can be known before the model's files are.

        Raises:
            ConfigError: naming the flag to change.
        """
        for f in dataclasses.fields(self):
            choices = f.metadata["choices"]
            value = getattr(self, f.name)
            if choices and value is not None and value not in choices:
                own_value(f.name, value)  # has better words for a value of vLLM's
                raise ConfigError(f"{flag_name(f.name)} must be one of {', '.join(choices)}, got {value!r}")
        if self.gpu_memory_utilization is not None and not 0.0 < self.gpu_memory_utilization <= 1.0:
            raise ConfigError(f"--gpu-memory-utilization must be in (0, 1], got {self.gpu_memory_utilization}")
        if not isinstance(self.hf_overrides, dict):
            kind = type(self.hf_overrides).__name__
            raise ConfigError(f"--hf-overrides must be an object that is merged into config.json, got a {kind}")
        for name, low in _LOWEST.items():
            value = getattr(self, name)
            if value is None:
                continue
            if value < low:
                raise ConfigError(f"{flag_name(name)} must be at least {low}, got {value}")
            high = _HIGHEST.get(name, LARGEST_LENGTH)
            if value > high:
                raise ConfigError(f"{flag_name(name)} must be at most {high}, got {shown(value)}")
        for model_name in self.served_model_name:
            if not model_name.strip() or not model_name.isprintable():
                raise ConfigError(f"--served-model-name must be names of printable characters, got {shown(model_name)}")
        parse_length(self.max_model_len)
        parse_bytes(self.kv_cache_memory_bytes)
        envs.check()
        early_checks.check_device(self.device)
        early_checks.check_chat_template(self.chat_template)
        early_checks.check_generation_config(self.generation_config)
        early_checks.check_folders(self.download_dir)

    def _device_config(self) -> DeviceConfig:
        device = self.device
        if device == "auto":
            device = "cuda" if os.path.exists("/dev/nvidiactl") and _torch_sees_cuda() else "cpu"
        return DeviceConfig(type=device, num_threads=self.num_threads or available_cpus(), executor="uni")  # type: ignore[arg-type]

    def _model_config(self, files: ModelFiles, device: str) -> ModelConfig:
        if files.path.endswith(".gguf") and not self.tokenizer and not self.skip_tokenizer_init:
            early_checks.check_converted_tokenizers()
        where = files.config_file + (" with --hf-overrides" if self.hf_overrides else "")
        config = with_overrides(files.config, self.hf_overrides)
        architecture = architecture_of(config, where)
        text = text_config(config, where)
        check_config(text, where, architecture)
        check_weights(files, text, architecture, where)
        generation = self._generation_config(files)
        tokenizer = files.path
        if self.tokenizer:
            tokenizer = find_model(
                self.tokenizer,
                revision=self.tokenizer_revision,
                token=self.hf_token,
                download_dir=self.download_dir,
                weights=False,
            ).path
        return ModelConfig(
            name=self.model,
            path=files.path,
            format=files.format,
            hf_config=config,
            architecture=architecture,
            dtype=self._dtype(text, config, device),  # type: ignore[arg-type]
            max_model_len=self._max_model_len(text),
            fit_max_model_len=parse_length(self.max_model_len) is None,
            vocab_size=text["vocab_size"],
            eos_token_ids=_eos_ids(text, generation),
            generation_config=generation,
            tokenizer_path=tokenizer,
            served_model_names=tuple(self.served_model_name) or names_of(self.model),
            seed=self.seed,
            max_logprobs=self.max_logprobs,
            logprobs_mode=self.logprobs_mode,  # type: ignore[arg-type]
            skip_tokenizer_init=self.skip_tokenizer_init,
            chat_template=self.chat_template,
            quantization=self._quantization(device),
        )

    def _generation_config(self, files: ModelFiles) -> dict[str, Any]:
        where = "generation_config.json of " + self.model
        if self.generation_config == "octavo":
            base: dict[str, Any] = {"eos_token_id": files.generation_config.get("eos_token_id")}
        elif self.generation_config == "auto":
            base = files.generation_config
        else:
            path = Path(self.generation_config) / "generation_config.json"
            base, where = read_object(path), str(path)
        check_overrides(self.override_generation_config)
        merged = merge(base, self.override_generation_config)
        check_generation_config(
            merged, where + (" with --override-generation-config" if self.override_generation_config else "")
        )
        return merged

    def _dtype(self, text: Mapping[str, Any], config: dict[str, Any], device: str) -> str:
        if self.dtype != "auto":
            return {"half": "float16", "float": "float32"}.get(self.dtype, self.dtype)
        saved = text.get("dtype") or text.get("torch_dtype") or config.get("dtype") or config.get("torch_dtype") or "float32"
        if device == "cpu":
            return "bfloat16" if cpu_has_bf16() else "float32"
        return saved if saved in ("float16", "bfloat16") else "bfloat16"

    def _quantization(self, device: str) -> Literal["int8", "gguf"] | None:
        if self.quantization is not None and device != "cpu":
            raise ConfigError(f"--quantization {self.quantization} runs on a CPU only in this version; use --device cpu")
        return self.quantization  # type: ignore[return-value]

    def _max_model_len(self, text: Mapping[str, Any]) -> int:
        own = model_context_length(text)
        wanted = parse_length(self.max_model_len)
        if wanted is None:
            return own
        if wanted > own:
            raise ConfigError(f"--max-model-len {wanted} is more than the model's own {own}; lower it or change --hf-overrides")
        return wanted

    def _cache_config(self, model: ModelConfig, device: str) -> CacheConfig:
        return CacheConfig(
            block_size=self.block_size or (32 if device == "cpu" else 16),
            dtype=model.dtype if self.kv_cache_dtype == "auto" else self.kv_cache_dtype,  # type: ignore[arg-type]
            memory_utilization=self.gpu_memory_utilization or (0.25 if device == "cpu" else 0.9),
            memory_bytes=self._cache_bytes(device),
            num_blocks=self.num_gpu_blocks_override,
            enable_prefix_caching=self.enable_prefix_caching,
        )

    def _cache_bytes(self, device: str) -> int | None:
        others = (self.kv_cache_memory_bytes, self.gpu_memory_utilization, self.num_gpu_blocks_override)
        if device == "cpu" and all(other is None for other in others):
            return foreign_envs.cache_bytes()
        return parse_bytes(self.kv_cache_memory_bytes)

    def _scheduler_config(self, model: ModelConfig, device: str) -> SchedulerConfig:
        max_num_seqs = self.max_num_seqs or (128 if device == "cpu" else 256)
        tokens = self.max_num_batched_tokens or max(2048 if device == "cpu" else 8192, max_num_seqs)
        if not self.enable_chunked_prefill and tokens < model.max_model_len:
            if self.max_num_batched_tokens:
                raise ConfigError(
                    f"--max-num-batched-tokens {tokens} is below --max-model-len {model.max_model_len}, "
                    "which --no-enable-chunked-prefill does not allow"
                )
            tokens = model.max_model_len
        if tokens < max_num_seqs:
            raise ConfigError(f"--max-num-batched-tokens {tokens} must be at least --max-num-seqs {max_num_seqs}")
        return SchedulerConfig(
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=tokens,
            enable_chunked_prefill=self.enable_chunked_prefill,
            long_prefill_token_threshold=self.long_prefill_token_threshold,
            policy=self.scheduling_policy,  # type: ignore[arg-type]
            async_scheduling=self.async_scheduling,
            max_num_queued_reqs=self.max_num_queued_reqs,
            max_num_queued_tokens=self.max_num_queued_tokens,
            stream_interval=self.stream_interval,
        )


_LOWEST = {
    "block_size": 1, "max_num_seqs": 1, "max_num_batched_tokens": 1, "num_gpu_blocks_override": 2, "stream_interval": 1,
    "num_threads": 1, "max_num_queued_reqs": 0, "max_num_queued_tokens": 1, "long_prefill_token_threshold": 0, "max_logprobs": -1,
    "max_core_restarts": 0, "seed": -(2**63),
}  # fmt: skip
_HIGHEST = {"seed": 2**63 - 1, "num_threads": envs.MOST_THREADS}
"""Of those that may not be as large as `LARGEST_LENGTH`, or may be larger."""
_MOST_BYTES = 2**63 - 1


def flag_name(field_name: str) -> str:
    """max_model_len -> --max-model-len"""
    return "--" + field_name.replace("_", "-")


def parse_length(value: int | str | None) -> int | None:
    """8192, "8k" or "8K" -> 8192; None, "auto" and -1 -> None."""
    if value is None or value in ("auto", -1, "-1"):
        return None
    return _parse_scaled(value, "--max-model-len", 1024)


def parse_bytes(value: int | str | None) -> int | None:
    """1073741824 or "1G" -> 1073741824."""
    return None if value is None else _parse_scaled(value, "--kv-cache-memory-bytes", 1024)


def _parse_scaled(value: int | str, flag: str, base: int) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmMgG]?)(?:i?[bB])?", str(value).strip())
    if match is None or float(match[1]) <= 0:
        raise ConfigError(f"{flag} must be a positive number, with k, M or G if you like, got {value!r}")
    scaled = float(match[1]) * base ** " kmg".index(match[2].lower() or " ")
    if scaled > _MOST_BYTES:
        raise ConfigError(f"{flag} must be at most {_MOST_BYTES}, got {shown(value)}")
    return int(scaled)


def model_context_length(text: Mapping[str, Any]) -> int:
    """Longest sequence the model was made for, RoPE scaling included."""
    for key in ("max_position_embeddings", "n_positions", "seq_length", "max_seq_len"):
        if text.get(key):
            length = int(text[key])
            break
    else:
        raise ConfigError(
            "config.json does not say how long sequences may be; set --hf-overrides '{\"max_position_embeddings\": N}'"
        )
    return context_length(text, length)


def available_cpus() -> int:
    """Processors this process may use: OCTAVO_NUM_THREADS, else the affinity mask, cut by the cgroup's CPU quota."""
    if envs.NUM_THREADS:
        return int(envs.NUM_THREADS)
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(count, int(quota)) if quota else count)


def _cgroup_quota() -> float | None:
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if limit == "max" else float(limit) / float(period)
    except (OSError, ValueError):
        return None


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 natively."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags or " bf16" in flags


def _torch_sees_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _eos_ids(text: Mapping[str, Any], generation: dict[str, Any]) -> tuple[int, ...]:
    sources = (Fields("generation_config.json", generation), Fields("config.json", text))
    return tuple(dict.fromkeys(token for fields in sources for token in token_ids(fields, "eos_token_id")))
