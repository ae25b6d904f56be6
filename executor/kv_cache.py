"""Sizing and allocating the paged KV cache."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.config import EngineConfig
from octavo.early_checks import bytes_per_block, checked_length, shown_bytes
from octavo.errors import ConfigError
from octavo.executor.attention import KVCache
from octavo.kernels import host_memory


@dataclass(frozen=True, slots=True)
class KVCachePlan:
    """What fits.

    Attributes:
        num_blocks: blocks, each of every layer.
        block_bytes: bytes of one such block.
        max_model_len: longest sequence; less than configured only with `fit_max_model_len`.
    """

    num_blocks: int
    block_bytes: int
    max_model_len: int


def plan_kv_cache(config: EngineConfig, layers: list[tuple[int, int]], available: int, weights: int = 0) -> KVCachePlan:
    """Decide how many blocks there are.

    Args:
        layers: (KV heads, head size) of each layer.
        available: bytes still free on the device, the weights loaded.
        weights: bytes the weights took of the device; 0 where they do not count against the cache's share.

    Raises:
        ConfigError: one sequence of max_model_len does not fit, and the length was asked for.
    """
    cache, block_bytes = config.cache, bytes_per_block(config.cache, layers)
    if cache.num_blocks is not None:
        num_blocks = cache.num_blocks
    elif cache.memory_bytes is not None:
        num_blocks = cache.memory_bytes // block_bytes
    else:
        num_blocks = min(_budget(config, available, weights) // block_bytes, _most_useful_blocks(config))
    return KVCachePlan(num_blocks, block_bytes, checked_length(config.model, config.cache, num_blocks, block_bytes))


def allocate_kv_cache(
    config: EngineConfig, layers: list[tuple[int, int]], num_blocks: int, device: torch.device
) -> list[KVCache]:
    """One (keys, values) pair a layer, as `executor/attention.py` describes. Pages of host memory are taken when first used.

    Raises:
        ConfigError: the device refuses so much memory.
    """
    dtype = getattr(torch, config.cache.dtype)

    def half(heads: int, size: int) -> torch.Tensor:
        shape = (num_blocks, heads, config.cache.block_size, size)
        return host_memory.empty(shape, dtype) if device.type == "cpu" else torch.empty(shape, dtype=dtype, device=device)

    try:
        return [(half(heads, size), half(heads, size)) for heads, size in layers]
    except (MemoryError, torch.OutOfMemoryError) as error:
        wanted = shown_bytes(num_blocks * bytes_per_block(config.cache, layers))
        raise ConfigError(
            f"cannot allocate a KV cache of {wanted}: lower --kv-cache-memory-bytes, --num-gpu-blocks-override or "
            f"--gpu-memory-utilization ({error})"
        ) from error


def _budget(config: EngineConfig, available: int, weights: int) -> int:
    if config.device.type == "cpu":
        return int(available * config.cache.memory_utilization)
    return max(0, int((available + weights) * config.cache.memory_utilization) - weights)


def _most_useful_blocks(config: EngineConfig) -> int:
    """What max_num_seqs sequences of max_model_len could fill."""
    return config.scheduler.max_num_seqs * -(-config.model.max_model_len // config.cache.block_size)
