"""Engine arguments of vLLM's, old and new, that are no fields of `EngineArgs`: accepted without effect, or refused by name.

An argument that becomes an option here loses its line here.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from octavo.errors import ConfigError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ForeignArg:
    """One argument: why it does nothing, and what it may be.

    Attributes:
        why: a sentence's end, for logs, errors and docs.
        only: values that ask for nothing; any other is refused. None = every value is accepted and changes nothing.
        switch: a flag without a value on the command line.
    """

    why: str
    only: tuple[Any, ...] | None = None
    switch: bool = False


_NOTHING = (None, False, "", "auto", 0)
"""Values that ask for nothing, whatever the argument."""


def _accepted(why: str, *names: str, switch: bool = False) -> dict[str, ForeignArg]:
    return {name: ForeignArg(why, None, switch) for name in names}


def _refused(why: str, *names: str, only: tuple[Any, ...] = _NOTHING, switch: bool = False) -> dict[str, ForeignArg]:
    return {name: ForeignArg(why, only, switch) for name in names}


_KERNELS = "kernels are chosen by the processor (OCTAVO_KERNELS, OCTAVO_CPU_ISA)"
_COMPILE = "there is nothing to compile"
_ONE_DEVICE = "this version has one device"
_TEXT_ONLY = "models take text only in this version"
_NO_LORA = "there are no LoRA adapters in this version"
_NO_POOLING = "this version generates text and pools nothing"
_NO_DRAFTS = "this version has no speculative decoding"
_NO_OFFLOAD = "weights and KV cache stay where they are in this version"
_NO_PARSERS = "this version parses neither tool calls nor reasoning"
_NO_GRAMMAR = "this version does not constrain outputs to a grammar"

FOREIGN_ARGS: dict[str, ForeignArg] = {
    **_accepted("Octavo runs no code from a model's repository", "trust_remote_code", switch=True),
    **_accepted("Octavo runs no code from a model's repository", "code_revision"),
    **_accepted(_COMPILE, "enforce_eager", switch=True),
    **_accepted(
        _COMPILE, "compilation_config", "optimization_level", "cudagraph_capture_sizes", "max_cudagraph_capture_size",
        "cuda_graph_sizes", "max_seq_len_to_capture",
    ),
    **_accepted(_KERNELS, "attention_backend", "attention_config", "moe_backend", "linear_backend", "kernel_config", "model_impl"),
    **_accepted(_KERNELS, "disable_cascade_attn", switch=True),
    **_accepted("use --max-num-seqs and --max-num-batched-tokens", "performance_mode"),
    **_accepted(_ONE_DEVICE, "disable_custom_all_reduce", "numa_bind", "enable_dbo", switch=True),
    **_accepted(_ONE_DEVICE, "master_addr", "master_port", "node_rank", "all2all_backend", "eplb_config", "max_parallel_loading_workers"),
    **_accepted("preempted requests are recomputed", "swap_space"),
    **_accepted("steps are scheduled ahead by --async-scheduling", "num_scheduler_steps"),
    **_accepted("use --stream-interval", "multi_step_stream_outputs", switch=True),
    **_accepted("outputs are always processed beside the step", "disable_async_output_proc", switch=True),
    **_accepted("the block manager is the only one", "use_v2_block_manager", "disable_hybrid_kv_cache_manager", switch=True),
    **_accepted("the hash of KV blocks is fixed", "prefix_caching_hash_algo"),
    **_accepted("every engine can sleep", "enable_sleep_mode", switch=True),
    **_accepted("the file says which", "config_format"),
    **_accepted("what a checkpoint holds is supported or refused by itself", "allow_deprecated_quantization", switch=True),
    **_accepted("load options are not needed", "model_loader_extra_config", "ignore_patterns"),
    **_accepted("the fast tokenizer is always used", "tokenizer_mode"),
    **_accepted("the number of threads is fixed", "renderer_num_workers"),
    **_accepted("requests are logged one line each", "enable_log_requests", "disable_log_requests", "enable_log_outputs", switch=True),
    **_accepted("requests are logged without their text", "max_log_len"),
    **_accepted(
        _TEXT_ONLY, "allowed_local_media_path", "allowed_media_domains", "limit_mm_per_prompt", "media_io_kwargs",
        "mm_processor_kwargs", "mm_processor_cache_gb", "mm_processor_cache_type", "mm_shm_cache_max_object_size_mb",
        "mm_hasher_algorithm", "mm_encoder_tp_mode", "video_pruning_rate",
    ),
    **_accepted(
        _TEXT_ONLY, "disable_chunked_mm_input", "skip_mm_profiling", "interleave_mm_strings", "enable_mm_embeds",
        "language_model_only", "disable_mm_preprocessor_cache", switch=True,
    ),
    **_accepted(_NO_LORA, "max_lora_rank", "max_loras", "max_cpu_loras", "lora_dtype", "lora_target_modules", "lora_extra_vocab_size"),
    **_accepted(_NO_LORA, "fully_sharded_loras", "enable_tower_connector_lora", switch=True),
    **_accepted(_NO_GRAMMAR, "structured_outputs_config", "guided_decoding_backend"),
    **_refused(
        _ONE_DEVICE, "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "nnodes",
        "decode_context_parallel_size", "prefill_context_parallel_size", "data_parallel_size_local", "api_server_count",
        only=(1, None, "auto"),
    ),
    **_refused(
        _ONE_DEVICE, "data_parallel_rank", "data_parallel_start_rank", "data_parallel_address", "data_parallel_rpc_port",
        "data_parallel_backend",
    ),
    **_refused(
        _ONE_DEVICE, "enable_expert_parallel", "enable_eplb", "data_parallel_hybrid_lb", "data_parallel_external_lb", "headless",
        switch=True,
    ),
    **_refused("the task follows from the model, and " + _NO_POOLING, "task", "runner", only=("auto", "generate", None)),
    **_refused(_NO_POOLING, "convert", only=("auto", "none", None)),
    **_refused(_NO_POOLING, "pooler_config", "io_processor_plugin"),
    **_refused(_NO_LORA, "enable_lora", switch=True),
    **_refused(_NO_LORA, "lora_modules", "default_mm_loras", only=(*_NOTHING, [], {})),
    **_refused("this version takes text and token ids only", "enable_prompt_embeds", switch=True),
    **_refused("this version returns neither experts nor masks", "enable_return_routed_experts", "return_sampling_mask", switch=True),
    **_refused(_NO_DRAFTS, "speculative_config", "spec_method", "spec_model", "spec_tokens", "speculative_model", "num_speculative_tokens"),
    **_refused(
        _NO_OFFLOAD, "cpu_offload_gb", "cpu_offload_params", "offload_group_size", "offload_params", "kv_offloading_size",
        "kv_transfer_config", "ec_transfer_config", "kv_events_config",
    ),
    **_refused(_NO_OFFLOAD, "offload_num_in_group", "offload_prefetch_step", only=(*_NOTHING, 1)),
    **_accepted(_NO_OFFLOAD, "kv_offloading_backend"),
    **_refused("requests' own parameters are the only ones that change logits", "logits_processors", only=(*_NOTHING, [])),
    **_refused("the checkpoint says how it is quantized", "quantization_config", only=(*_NOTHING, {})),
    **_refused("name the model's folder with --model", "hf_config_path"),
    **_refused("the scheduler and the worker are fixed", "scheduler_cls", "worker_cls", "worker_extension_cls"),
    **_refused("a request that fits is admitted", "watermark"),
    **_refused("use --max-num-batched-tokens", "max_num_scheduled_tokens"),
    **_refused("the window is part of the model", "disable_sliding_window", switch=True),
    **_refused("the scales come from the checkpoint", "calculate_kv_scales", switch=True),
    **_refused("set OCTAVO_PROFILER_DIR", "profiler_config", only=(*_NOTHING, {})),
    **_refused("this version sends no traces", "otlp_traces_endpoint", "collect_detailed_traces"),
    **_refused(_NO_PARSERS, "reasoning_parser", "reasoning_parser_plugin", "tool_call_parser", "tool_parser_plugin", "tool_server"),
    **_refused(_NO_PARSERS, "enable_auto_tool_choice", switch=True),
    **_refused("this version watermarks nothing", "watermarking_config"),
}  # fmt: skip
"""By name, as fields are spelled."""

_told: set[str] = set()
"""Those whose line is in the log already."""


def check_foreign(name: str, value: Any) -> None:
    """Log, once, that an argument changes nothing, or refuse a value that would have to change something.

    Raises:
        ConfigError: naming the flag and why.
    """
    arg = FOREIGN_ARGS[name]
    flag = "--" + name.replace("_", "-")
    if arg.only is None:
        if value not in (None, False, {}, []) and name not in _told:
            _told.add(name)
            logger.warning("%s has no effect: %s", flag, arg.why)
        return
    if not any(value == neutral and isinstance(value, bool) == isinstance(neutral, bool) for neutral in arg.only):
        shown = repr(value)
        allowed = ", ".join(repr(neutral) for neutral in arg.only if neutral is not None)
        raise ConfigError(f"{flag} is not supported: {arg.why}; it may be {allowed}, got {shown[:80]}")
