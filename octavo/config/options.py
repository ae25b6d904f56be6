"""The options of the engine, one field each: a plain new one is said here and read as a field of `octavo.config.structs`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from octavo import envs
from octavo.config.foreign_args import SAME_VALUES
from octavo.config.option import option
from octavo.sources.model_source import DEFAULT_MODEL


@dataclass
class EngineOptions:
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
    runner: str = option(
        "auto",
        "What the model is for; auto = pooling for encoders and classifiers, else generating text.",
        choices=("auto", "generate", "pooling"),
    )
    convert: str = option(
        "auto",
        "What a pooling model gives; embed makes an embedding model of one that generates text.",
        choices=("auto", "none", "embed", "classify"),
    )
    task: str = option(
        "auto",
        "Another spelling of --runner and --convert, as engines had it once.",
        choices=("auto", "generate", "embed", "embedding", "classify", "score", "reward"),
    )
    pooler_config: dict[str, Any] | None = option(
        None, "JSON: pooling_type (CLS, LAST, MEAN, ...) and use_activation in the place of what the model's files say."
    )
    dtype: str = option(
        "auto",
        "Type of activations, and of weights that have no smaller form; auto = 16 bits where the processor computes in them (where a model pools: if it has 16 bits, and the processor matrix tiles). Where a CPU computes in float32, weights stay as the checkpoint has them (16 bits, GGUF blocks), to the bit.",
        choices=("auto", "float32", "bfloat16", "float16", "half", "float"),
    )
    quantization: str | None = option(
        None,
        "Turn the weights into this while loading; int8 = products in 8 bits, a scale a row of weights and activations; gguf = products with the integers of a GGUF file's blocks, activations in 8 bits.",
        choices=("int8", "gguf"),
        flag="-q",
    )
    device: str = option("auto", "Where to run.", choices=("auto", "cpu", "cuda"))
    seed: int = option(
        0, "Seed of dummy weights; a request brings its own seed, or gets a random one.", low=-(2**63), high=2**63 - 1
    )
    max_model_len: int | str | None = option(
        None,
        "Longest prompt plus output in tokens (8k = 8192); unset or auto = the model's own, or less where memory is short.",
    )
    served_model_name: list[str] = option([], "Names the model answers to; unset = --model.")
    max_logprobs: int = option(20, "Most logprobs a request may ask for; -1 = the vocabulary.", low=-1)
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
    num_gpu_blocks_override: int | None = option(None, "Exact number of KV blocks, for all kinds of layers together.", low=2)
    block_size: int | None = option(
        None, "Tokens a KV block; unset = 32 on CPU, 16 on GPU. CPUs with AMX are fastest with multiples of 32.", low=1
    )
    kv_cache_dtype: str = option(
        "auto", "Type of the KV cache; auto = --dtype.", choices=("auto", "float32", "bfloat16", "float16")
    )
    enable_prefix_caching: bool = option(True, "Reuse KV blocks of equal prompt beginnings.")
    max_num_seqs: int | None = option(None, "Sequences in a step; unset = 128 on CPU, 256 on GPU.", low=1)
    max_num_batched_tokens: int | None = option(None, "Tokens in a step; unset = 2048 on CPU, 8192 on GPU.", low=1)
    enable_chunked_prefill: bool = option(True, "Split long prompts over steps.")
    long_prefill_token_threshold: int = option(0, "Most tokens of one prompt in a step; 0 = no limit but the budget.", low=0)
    scheduling_policy: str = option("fcfs", "Order of waiting requests.", choices=("fcfs", "priority"))
    async_scheduling: bool = option(True, "Schedule the next step while this one runs.")
    max_num_queued_reqs: int = option(1024, "Requests that may wait; one more is refused with 429. 0 = no limit.", low=0)
    max_num_queued_tokens: int | None = option(
        None, "Prompt tokens that may wait; beyond, requests are refused with 429.", low=1
    )
    stream_interval: int = option(1, "Tokens a streamed chunk; a request may ask for more, not for fewer.", low=1)
    distributed_executor_backend: str = option("auto", "Executor.", choices=("auto", "uni"))
    num_threads: int | None = option(
        None, "Compute threads on a CPU; unset = the processors this process may use.", low=1, high=envs.MOST_THREADS
    )
    max_core_restarts: int = option(
        5,
        "How often within 10 minutes the engine core may die by itself (a crash, no memory) and is started again, its requests going on where they were; once more ends the engine. Kills from outside do not count. 0 = any death ends the engine.",
        low=0,
    )
    spare_core: bool = option(
        False,
        "Keep a second core process, its imports done, to take a dead one's place sooner (1 to 2 s less); it costs about 130 MB.",
    )
    io_processor_plugin: str | None = option(
        None,
        "IO Processor plugins to load, by entry point; the first is the default, a request may name another. Goes before the field of the same name in the model's config.json.",
    )
    io_processor_workers: int = option(
        0,
        "Processes a plugin runs in, each killed when a call hangs or its memory limit is reached; 0 = one thread of the server's process.",
        low=0,
        high=envs.MOST_THREADS,
    )
    io_processor_timeout: float = option(60.0, "Seconds a plugin may take before the model, and again after it.", low=0.001)
    io_processor_memory: int | str = option("4G", "Memory a plugin's process may allocate; with --io-processor-workers.")
    io_processor_max_prompts: int = option(512, "Most prompts a plugin may make of one request.", low=1)
    disable_log_stats: bool = option(False, "No statistics in the log.")

    def __post_init__(self) -> None:
        for name, table in SAME_VALUES.items():
            value = getattr(self, name)
            if isinstance(value, str):
                setattr(self, name, table.get(value, value))
