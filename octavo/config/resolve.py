"""From what a user said to what every process works with: files found, defaults worked out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from octavo.checked import Fields
from octavo.config import early_checks, foreign_envs
from octavo.config.check import check
from octavo.config.io_processors import io_processor_config
from octavo.config.machine import available_cpus, cpu_has_bf16, cpu_has_tiles, torch_sees_cuda
from octavo.config.options import EngineOptions
from octavo.config.pooling import Work, pooling_config, work_of
from octavo.config.sizes import parse_bytes, parse_length
from octavo.config.structs import CacheConfig, DeviceConfig, EngineConfig, ModelConfig, SchedulerConfig
from octavo.errors import ConfigError
from octavo.sources.decoders import decoder_config, decoder_of
from octavo.sources.encoders import ENCODERS, encoder_config, encoder_length
from octavo.sources.generation_config import check_overrides
from octavo.sources.hf_config import (
    BUILT_IN,
    architecture_of,
    check_config,
    check_generation_config,
    merge,
    text_config,
    token_ids,
    with_overrides,
)
from octavo.sources.model_source import ModelFiles, find_model
from octavo.sources.rope import context_length
from octavo.sources.short_names import names_of
from octavo.sources.weights_check import check_weights
from octavo.strict_json import read_object

S = TypeVar("S", bound=msgspec.Struct)


def engine_config(options: EngineOptions) -> EngineConfig:
    """Resolve the model's files (downloading if need be) and every default.

    Raises:
        ConfigError: naming the flag to change.
    """
    check(options)
    device = _device_config(options)
    files = find_model(
        options.model,
        revision=options.revision,
        load_format=options.load_format,
        token=options.hf_token,
        download_dir=options.download_dir,
    )
    model = _model_config(options, files, device.type)
    cache = _cache_config(options, model, device.type)
    scheduler = _scheduler_config(options, model, device.type)
    early_checks.check_cache_size(model, cache, scheduler, device.type == "cpu")
    return _made(
        EngineConfig,
        options,
        model=model,
        cache=cache,
        scheduler=scheduler,
        device=device,
        io_processor=io_processor_config(options, files),
        log_stats=not options.disable_log_stats,
    )


def _made(struct: type[S], options: EngineOptions, **worked_out: Any) -> S:
    """A struct of what was worked out, and of the options for its other fields as the user gave them."""
    others = {name: getattr(options, name) for name in struct.__struct_fields__ if name not in worked_out}
    return struct(**worked_out, **others)


def _device_config(options: EngineOptions) -> DeviceConfig:
    device = options.device
    if device == "auto":
        device = "cuda" if os.path.exists("/dev/nvidiactl") and torch_sees_cuda() else "cpu"
    return DeviceConfig(type=device, num_threads=options.num_threads or available_cpus(), executor="uni")  # type: ignore[arg-type]


def _model_config(options: EngineOptions, files: ModelFiles, device: str) -> ModelConfig:
    if files.path.endswith(".gguf") and not options.tokenizer and not options.skip_tokenizer_init:
        early_checks.check_converted_tokenizers()
    where = files.config_file + (" with --hf-overrides" if options.hf_overrides else "")
    config = with_overrides(files.config, options.hf_overrides)
    named = architecture_of(config, where)
    work, architecture = work_of(options, named), named
    if named in ENCODERS:
        config = encoder_config(config, named, where)
    elif decoder_of(named) != named and decoder_of(named) in BUILT_IN:
        architecture = decoder_of(named)
        config = decoder_config(config, named, where, Path(files.path))
    text = text_config(config, where)
    pooling, text_length = pooling_config(options, work, Path(files.path), config, named, where)
    check_config(text, where, architecture)
    check_weights(files, text, architecture, where)
    generation = _generation_config(options, files)
    tokenizer = files.path
    if options.tokenizer:
        tokenizer = find_model(
            options.tokenizer,
            revision=options.tokenizer_revision,
            token=options.hf_token,
            download_dir=options.download_dir,
            weights=False,
        ).path
    return _made(
        ModelConfig,
        options,
        name=options.model,
        path=files.path,
        format=files.format,
        hf_config=config,
        architecture=architecture,
        dtype=_dtype(options, text, config, device, work),
        max_model_len=_max_model_len(options, text, architecture, text_length),
        fit_max_model_len=parse_length(options.max_model_len) is None,
        vocab_size=text["vocab_size"],
        eos_token_ids=_eos_ids(text, generation),
        generation_config=generation,
        tokenizer_path=tokenizer,
        served_model_names=tuple(options.served_model_name) or names_of(options.model),
        quantization=_quantization(options, device),
        pooling=pooling,
    )


def _generation_config(options: EngineOptions, files: ModelFiles) -> dict[str, Any]:
    where = "generation_config.json of " + options.model
    if options.generation_config == "octavo":
        base: dict[str, Any] = {"eos_token_id": files.generation_config.get("eos_token_id")}
    elif options.generation_config == "auto":
        base = files.generation_config
    else:
        path = Path(options.generation_config) / "generation_config.json"
        base, where = read_object(path), str(path)
    check_overrides(options.override_generation_config)
    merged = merge(base, options.override_generation_config)
    check_generation_config(
        merged, where + (" with --override-generation-config" if options.override_generation_config else "")
    )
    return merged


def _dtype(options: EngineOptions, text: Mapping[str, Any], config: dict[str, Any], device: str, work: Work) -> str:
    if options.dtype != "auto":
        return {"half": "float16", "float": "float32"}.get(options.dtype, options.dtype)
    saved = text.get("dtype") or text.get("torch_dtype") or config.get("dtype") or config.get("torch_dtype") or "float32"
    if device == "cpu" and work.runner == "pooling":
        # Texts come many tokens at a time, and their vectors are compared with others that were made elsewhere.
        return "bfloat16" if saved != "float32" and cpu_has_tiles() else "float32"
    if device == "cpu":
        return "bfloat16" if cpu_has_bf16() else "float32"
    return saved if saved in ("float16", "bfloat16") else "bfloat16"


def _quantization(options: EngineOptions, device: str) -> Literal["int8", "gguf"] | None:
    if options.quantization is not None and device != "cpu":
        raise ConfigError(f"--quantization {options.quantization} runs on a CPU only in this version; use --device cpu")
    return options.quantization  # type: ignore[return-value]


def _max_model_len(options: EngineOptions, text: Mapping[str, Any], architecture: str, text_length: int | None) -> int:
    """`text_length`: what the model's files say is read of a text."""
    own = encoder_length(text, architecture) if architecture in ENCODERS else model_context_length(text)
    wanted = parse_length(options.max_model_len)
    if wanted is None:
        return min(own, text_length or own)
    if wanted > own:
        raise ConfigError(f"--max-model-len {wanted} is more than the model's own {own}; lower it or change --hf-overrides")
    return wanted


def _cache_config(options: EngineOptions, model: ModelConfig, device: str) -> CacheConfig:
    return _made(
        CacheConfig,
        options,
        block_size=options.block_size or (32 if device == "cpu" else 16),
        dtype=model.dtype if options.kv_cache_dtype == "auto" else options.kv_cache_dtype,
        memory_utilization=options.gpu_memory_utilization or (0.25 if device == "cpu" else 0.9),
        memory_bytes=_cache_bytes(options, device),
        num_blocks=options.num_gpu_blocks_override,
    )


def _cache_bytes(options: EngineOptions, device: str) -> int | None:
    others = (options.kv_cache_memory_bytes, options.gpu_memory_utilization, options.num_gpu_blocks_override)
    if device == "cpu" and all(other is None for other in others):
        return foreign_envs.cache_bytes()
    return parse_bytes(options.kv_cache_memory_bytes)


def _scheduler_config(options: EngineOptions, model: ModelConfig, device: str) -> SchedulerConfig:
    max_num_seqs = options.max_num_seqs or (128 if device == "cpu" else 256)
    tokens = options.max_num_batched_tokens or max(2048 if device == "cpu" else 8192, max_num_seqs)
    chunked = options.enable_chunked_prefill and not model.is_encoder
    if not chunked and tokens < model.max_model_len:
        if options.max_num_batched_tokens and not model.is_encoder:
            raise ConfigError(
                f"--max-num-batched-tokens {tokens} is below --max-model-len {model.max_model_len}, "
                "which --no-enable-chunked-prefill does not allow"
            )
        tokens = model.max_model_len
    if tokens < max_num_seqs:
        raise ConfigError(f"--max-num-batched-tokens {tokens} must be at least --max-num-seqs {max_num_seqs}")
    return _made(
        SchedulerConfig,
        options,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=tokens,
        enable_chunked_prefill=chunked,
        policy=options.scheduling_policy,
    )


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


def _eos_ids(text: Mapping[str, Any], generation: dict[str, Any]) -> tuple[int, ...]:
    sources = (Fields("generation_config.json", generation), Fields("config.json", text))
    return tuple(dict.fromkeys(token for fields in sources for token in token_ids(fields, "eos_token_id")))
