"""What every process works with: frozen, made by `octavo.config.resolve`, sent to the core as one msgpack document."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from octavo.pooling_config import PoolingConfig
from octavo.sources.encoders import ENCODERS

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
    pooling: PoolingConfig | None = None
    """How hidden states are pooled; None = the model generates text."""

    @property
    def is_encoder(self) -> bool:
        """It reads a text whole, in one step, and keeps nothing of it."""
        return self.architecture in ENCODERS


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


class IOProcessorConfig(msgspec.Struct, frozen=True):
    """Which IO Processor plugins there are, and how they are run."""

    plugins: tuple[str, ...] = ()
    """Names of entry points; the first is the default."""
    workers: int = 0
    """Processes for each plugin; 0 = one thread of the frontend."""
    timeout: float = 60.0
    """Seconds a plugin may take before the model, and again after it."""
    memory_bytes: int = 4 << 30
    """What a worker process may allocate."""
    max_prompts: int = 512
    """Most prompts of one request."""


class EngineConfig(msgspec.Struct, frozen=True):
    """Everything the engine's processes need to know; made by `EngineArgs.create_engine_config`."""

    model: ModelConfig
    cache: CacheConfig
    scheduler: SchedulerConfig
    device: DeviceConfig
    io_processor: IOProcessorConfig = IOProcessorConfig()
    log_stats: bool = True
    max_core_restarts: int = 5
    """Deaths of the core by itself within ten minutes after which another one is started; 0 = never, whatever killed it."""
    spare_core: bool = False
