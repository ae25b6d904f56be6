"""Engine configurations for tests without a model."""

from __future__ import annotations

from typing import Any

from octavo.cache_groups import CacheGroup, CacheSpec
from octavo.config import CacheConfig, DeviceConfig, EngineConfig, ModelConfig, SchedulerConfig
from octavo.wire.messages import EngineRequest
from octavo.wire.pooling_spec import PoolingSpec
from octavo.wire.sampling_spec import SamplingSpec

VOCAB_SIZE = 50
FULL = (CacheGroup(CacheSpec("full", 1, 8), (0,)),)
"""One cache group, which keeps everything."""


def make_config(
    *,
    num_blocks: int = 64,
    block_size: int = 4,
    prefix_caching: bool = True,
    max_model_len: int = 64,
    fit_max_model_len: bool = False,
    vocab_size: int = VOCAB_SIZE,
    **scheduler: Any,
) -> EngineConfig:
    limits: dict[str, Any] = {
        "max_num_seqs": 8,
        "max_num_batched_tokens": 32,
        "enable_chunked_prefill": True,
        "long_prefill_token_threshold": 0,
        "policy": "fcfs",
        "async_scheduling": True,
        "max_num_queued_reqs": 0,
        "max_num_queued_tokens": None,
        "stream_interval": 1,
    }
    limits.update(scheduler)
    model = ModelConfig(
        name="fake", path="/nowhere", format="dummy", hf_config={}, architecture="Fake", dtype="float32",
        max_model_len=max_model_len, fit_max_model_len=fit_max_model_len, vocab_size=vocab_size, eos_token_ids=(),
        generation_config={}, tokenizer_path="/nowhere", served_model_names=("fake",),
    )  # fmt: skip
    cache = CacheConfig(
        block_size=block_size, dtype="float32", memory_utilization=0.5, memory_bytes=None, num_blocks=num_blocks,
        enable_prefix_caching=prefix_caching,
    )  # fmt: skip
    return EngineConfig(model, cache, SchedulerConfig(**limits), DeviceConfig("cpu", 1, "uni"))


def make_request(
    request_id: str, prompt: list[int], max_tokens: int = 8, *, priority: int = 0, salt: str | None = None, **sampling: Any
) -> EngineRequest:
    sampling.setdefault("seed", 0)
    return EngineRequest(request_id, prompt, SamplingSpec(max_tokens=max_tokens, **sampling), 0.0, priority, salt)


def make_pooling(request_id: str, prompt: list[int]) -> EngineRequest:
    return EngineRequest(request_id, prompt, SamplingSpec(1, 0), 0.0, pooling=PoolingSpec())
