"""Engine arguments of vLLM's, old and new, that are no fields of `EngineArgs`: accepted without effect, or refused by name.

An argument that becomes an option here loses its line here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from octavo.errors import ConfigError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ForeignArg:
    """One argument: why it does nothing, and what it may be.

    Attributes:
        why: a sentence's end, for logs, errors and docs; a refused one's says which capability is missing.
        only: values that ask for nothing; any other is refused. None = every value is accepted and changes nothing.
        switch: a flag without a value on the command line.
        many: a flag with any number of values there.
    """

    why: str
    only: tuple[Any, ...] | None = None
    switch: bool = False
    many: bool = False


NOTHING: tuple[Any, ...] = (None, False, "", "auto", 0)
"""Values that ask for nothing, whatever the argument."""


def accepted(why: str, *names: str, switch: bool = False, many: bool = False) -> dict[str, ForeignArg]:
    """Arguments that may have any value and change nothing."""
    return {name: ForeignArg(why, None, switch, many) for name in names}


def refused(
    why: str, *names: str, only: tuple[Any, ...] = NOTHING, switch: bool = False, many: bool = False
) -> dict[str, ForeignArg]:
    """Arguments that must ask for nothing."""
    return {name: ForeignArg(why, only, switch, many) for name in names}


_KERNELS = "kernels are chosen by the processor (OCTAVO_KERNELS, OCTAVO_CPU_ISA)"
_COMPILE = "there is nothing to compile"
_ONE_DEVICE = "this version has no parallelism over devices (it runs on one)"
NO_MEDIA = "this version has no multimodal models (prompts are text)"
_NO_LORA = "this version has no LoRA adapters"
_NO_DRAFTS = "this version has no speculative decoding"
_NO_OFFLOAD = "this version has no offloading (weights and KV cache stay where they are)"
NO_PARSERS = "this version has no parsers of tool calls or reasoning"
_NO_GRAMMAR = "there is one backend, and requests say the rest"

FOREIGN_ARGS: dict[str, ForeignArg] = {
    **accepted("Octavo runs no code from a model's repository", "trust_remote_code", switch=True),
    **accepted("Octavo runs no code from a model's repository", "code_revision"),
    **accepted(_COMPILE, "enforce_eager", switch=True),
    **accepted(_COMPILE, "compilation_config", "optimization_level", "max_cudagraph_capture_size", "max_seq_len_to_capture"),
    **accepted(_COMPILE, "cudagraph_capture_sizes", "cuda_graph_sizes", many=True),
    **accepted(_KERNELS, "attention_backend", "attention_config", "moe_backend", "linear_backend", "kernel_config", "model_impl"),
    **accepted(_KERNELS, "disable_cascade_attn", switch=True),
    **accepted("use --max-num-seqs and --max-num-batched-tokens", "performance_mode"),
    **accepted(_ONE_DEVICE, "disable_custom_all_reduce", "numa_bind", "enable_dbo", switch=True),
    **accepted(_ONE_DEVICE, "master_addr", "master_port", "node_rank", "all2all_backend", "eplb_config", "max_parallel_loading_workers"),
    **accepted("preempted requests are recomputed", "swap_space"),
    **accepted("steps are scheduled ahead by --async-scheduling", "num_scheduler_steps"),
    **accepted("use --stream-interval", "multi_step_stream_outputs", switch=True),
    **accepted("outputs are always processed beside the step", "disable_async_output_proc", switch=True),
    **accepted("the block manager is the only one", "use_v2_block_manager", "disable_hybrid_kv_cache_manager", switch=True),
    **accepted("the hash of KV blocks is fixed", "prefix_caching_hash_algo"),
    **accepted("every engine can sleep", "enable_sleep_mode", switch=True),
    **accepted("the file says which", "config_format"),
    **accepted("what a checkpoint holds is supported or refused by itself", "allow_deprecated_quantization", switch=True),
    **accepted("load options are not needed", "model_loader_extra_config"),
    **accepted("load options are not needed", "ignore_patterns", many=True),
    **accepted("the fast tokenizer is always used", "tokenizer_mode"),
    **accepted("the number of threads is fixed", "renderer_num_workers"),
    **accepted("requests are logged one line each", "enable_log_requests", "disable_log_requests", "enable_log_outputs", switch=True),
    **accepted("requests are logged without their text", "max_log_len"),
    **accepted(
        NO_MEDIA, "allowed_local_media_path", "limit_mm_per_prompt", "media_io_kwargs",
        "mm_processor_kwargs", "mm_processor_cache_gb", "mm_processor_cache_type", "mm_shm_cache_max_object_size_mb",
        "mm_hasher_algorithm", "mm_encoder_tp_mode", "video_pruning_rate",
    ),
    **accepted(
        NO_MEDIA, "disable_chunked_mm_input", "skip_mm_profiling", "interleave_mm_strings", "enable_mm_embeds",
        "language_model_only", "disable_mm_preprocessor_cache", switch=True,
    ),
    **accepted(_NO_LORA, "max_lora_rank", "max_loras", "max_cpu_loras", "lora_dtype", "lora_extra_vocab_size"),
    **accepted(_NO_LORA, "lora_target_modules", many=True),
    **accepted(NO_MEDIA, "allowed_media_domains", many=True),
    **refused(NO_MEDIA, "mm_encoder_only", switch=True),
    **accepted(_NO_LORA, "fully_sharded_loras", "enable_tower_connector_lora", switch=True),
    **accepted(_NO_GRAMMAR, "structured_outputs_config", "guided_decoding_backend"),
    **refused(
        _ONE_DEVICE, "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "nnodes",
        "decode_context_parallel_size", "prefill_context_parallel_size", "data_parallel_size_local", "api_server_count",
        only=(1, None, "auto"),
    ),
    **refused(
        _ONE_DEVICE, "data_parallel_rank", "data_parallel_start_rank", "data_parallel_address", "data_parallel_rpc_port",
        "data_parallel_backend",
    ),
    **refused(
        _ONE_DEVICE, "enable_expert_parallel", "enable_eplb", "data_parallel_hybrid_lb", "data_parallel_external_lb", "headless",
        switch=True,
    ),
    **refused(_NO_LORA, "enable_lora", switch=True),
    **refused(_NO_LORA, "lora_modules", only=(*NOTHING, [], {}), many=True),
    **refused(_NO_LORA, "default_mm_loras", only=(*NOTHING, [], {})),
    **refused("this version has no prompts of embeddings (they are text or token ids)", "enable_prompt_embeds", switch=True),
    **refused("this version has no answers with experts or masks", "enable_return_routed_experts", "return_sampling_mask", switch=True),
    **refused(_NO_DRAFTS, "speculative_config", "spec_method", "spec_model", "spec_tokens", "speculative_model", "num_speculative_tokens"),
    **refused(_NO_DRAFTS, "speculative_draft_tensor_parallel_size", only=(1, None)),
    **refused(
        _NO_OFFLOAD, "cpu_offload_gb", "cpu_offload_params", "offload_group_size", "offload_params", "kv_offloading_size",
        "kv_transfer_config", "ec_transfer_config", "kv_events_config",
    ),
    **refused(_NO_OFFLOAD, "offload_num_in_group", "offload_prefetch_step", only=(*NOTHING, 1)),
    **accepted(_NO_OFFLOAD, "kv_offloading_backend"),
    **refused("this version has no logits processors (requests' own parameters change logits)", "logits_processors", only=(*NOTHING, []), many=True),
    **refused("this version has no other quantization than the checkpoint's (and --quantization)", "quantization_config", only=(*NOTHING, {})),
    **refused("this version has no config apart from the model's folder (--model)", "hf_config_path"),
    **refused("this version has no exchangeable scheduler or worker", "scheduler_cls", "worker_cls", "worker_extension_cls"),
    **refused("this version has no flag for RoPE (use --hf-overrides)", "rope_scaling", "rope_theta"),
    **refused("this version has no watermark of KV blocks (a request that fits is admitted)", "watermark"),
    **refused("this version has no second token budget (use --max-num-batched-tokens)", "max_num_scheduled_tokens"),
    **refused("this version has no switch for a model's sliding window", "disable_sliding_window", switch=True),
    **refused("this version has no computed KV scales", "calculate_kv_scales", switch=True),
    **refused("this version has no other profiler than that of OCTAVO_PROFILER_DIR", "profiler_config", only=(*NOTHING, {})),
    **refused("this version has no OpenTelemetry traces", "otlp_traces_endpoint", "collect_detailed_traces"),
    **refused(NO_PARSERS, "reasoning_parser", "reasoning_parser_plugin", "tool_call_parser", "tool_parser_plugin", "tool_server"),
    **refused(NO_PARSERS, "enable_auto_tool_choice", switch=True),
    **refused("this version has no watermarking", "watermarking_config"),
}  # fmt: skip
"""By name, as fields are spelled."""

FOREIGN_VALUES: dict[str, dict[str, str]] = {
    "quantization": {
        **dict.fromkeys(("awq", "auto_awq", "awq_marlin"), "this version has no AWQ weights"),
        **dict.fromkeys(("gptq", "auto_gptq", "gptq_marlin"), "this version has no GPTQ weights"),
        **dict.fromkeys(("smoothquant", "compressed-tensors"), "this version has no quantized safetensors (int8 quantizes at load)"),
        **dict.fromkeys(
            (
                "fp8", "modelopt", "modelopt_fp4", "modelopt_mxfp8", "modelopt_mixed", "experts_int8", "quark", "moe_wna16",
                "torchao", "inc", "mxfp4", "mxfp8", "humming", "bitsandbytes", "fp8_per_tensor", "fp8_per_block",
                "fp8_per_channel", "int8_per_channel_weight_only", "nvfp4_per_token",
            ),
            "this version has no such quantization",
        ),
    },
    "load_format": {
        **dict.fromkeys(("pt", "npcache", "mistral"), "this version has no loader but for safetensors and GGUF"),
        **dict.fromkeys(
            (
                "fastsafetensors", "instanttensor", "ipc_cache", "modelexpress", "runai_streamer", "runai_streamer_sharded",
                "sharded_state", "tensorizer", "bitsandbytes",
            ),
            "this version has no loader but for safetensors and GGUF",
        ),
    },
    "kv_cache_dtype": dict.fromkeys(
        ("fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc", "int8_per_token_head", "int4_per_token_head", "nvfp4"),
        "this version has no quantized KV cache",
    ),
    "distributed_executor_backend": {
        "ray": "this version has no Ray (one device needs one worker)",
        "external_launcher": "this version has no workers that another program starts",
    },
    "device": dict.fromkeys(("npu", "tpu", "xpu", "hpu", "neuron", "rocm", "mps"), "this version has no such devices"),
}  # fmt: skip
"""Values of vLLM's for options that are here: by field, what is missing for them."""

SAME_VALUES: dict[str, dict[str, str]] = {
    "load_format": {"hf": "auto"},
    "distributed_executor_backend": {"mp": "auto"},
    "generation_config": {"vllm": "octavo"},
}
"""Values of vLLM's that mean one of ours: the core is a process of its own, whatever the executor is called."""

_told: set[str] = set()
"""Those whose line is in the log already."""


def own_value(name: str, value: Any) -> Any:
    """The value of an option that is here, in this version's words.

    Raises:
        ConfigError: vLLM has the value, and this version lacks what it asks for.
    """
    if not isinstance(value, str):
        return value
    value = SAME_VALUES.get(name, {}).get(value, value)
    why = FOREIGN_VALUES.get(name, {}).get(value)
    if why is not None:
        raise ConfigError(f"--{name.replace('_', '-')} {value} is not supported: {why}")
    return value


def check_foreign(name: str, value: Any, table: Mapping[str, ForeignArg] = FOREIGN_ARGS) -> None:
    """Log, once, that an argument changes nothing, or refuse a value that would have to change something.

    Raises:
        ConfigError: naming the flag and why.
    """
    arg = table[name]
    flag = "--" + name.replace("_", "-")
    if arg.only is None:
        if value not in (None, False, {}, []) and name not in _told:
            _told.add(name)
            logger.warning("%s has no effect: %s", flag, arg.why)
        return
    values = value if arg.many and isinstance(value, list) else [value]
    if not all(_asks_for_nothing(each, arg.only) for each in values):
        allowed = ", ".join(str(neutral) for neutral in arg.only if neutral not in (*NOTHING, [], {}) or neutral == 1)
        rule = f"it may be {allowed}" if allowed else "leave it out"
        raise ConfigError(f"{flag} is not supported: {arg.why}; {rule}, got {str(value)[:80]}")


def _asks_for_nothing(value: Any, neutral_values: tuple[Any, ...]) -> bool:
    return any(value == neutral and isinstance(value, bool) == isinstance(neutral, bool) for neutral in neutral_values)
