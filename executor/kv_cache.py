"""Sizing and allocating the paged KV cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from octavo.cache_groups import BlockDemand, CacheLayout, CacheSpec, LayerPlace, plan_layout
from octavo.config import EngineConfig
from octavo.config.early_checks import bytes_per_block, checked_length, shown_bytes
from octavo.errors import ConfigError
from octavo.executor.attention import KVCache
from octavo.kernels import host_memory


@dataclass(frozen=True, slots=True)
class KVCachePlan:
    """What fits.

    Attributes:
        layout: what a block is made of.
        num_blocks: blocks, of whichever group; 0 for a model without caches.
        block_bytes: bytes of a block.
        max_model_len: longest sequence; less than configured only with `fit_max_model_len`.
    """

    layout: CacheLayout
    num_blocks: int
    block_bytes: int
    max_model_len: int

    def describe(self) -> Iterator[str]:
        """Lines for people: the size, and where layers are of several kinds how they share blocks, with what that wastes."""
        size = shown_bytes(self.num_blocks * self.block_bytes)
        yield f"{self.num_blocks} blocks of {self.layout.block_size} tokens, {size}"
        by_spec: dict[CacheSpec, list[int]] = {}
        for number, group in enumerate(self.layout.groups):
            by_spec.setdefault(group.spec, []).append(number)
        for spec, groups in by_spec.items() if len(by_spec) > 1 else ():
            kind = f"window of {spec.window}" if spec.window else spec.kind
            layers = sum(len(self.layout.groups[number].layers) for number in groups)
            unused = sum(map(self.layout.unused_share, groups)) / len(groups)
            yield f"{kind}: layers {layers}, groups {len(groups)}, unused part of their blocks {unused:.0%}"


def plan_kv_cache(config: EngineConfig, specs: Sequence[CacheSpec], available: int, weights: int = 0) -> KVCachePlan:
    """Decide how many blocks there are.

    Args:
        specs: what each layer keeps; none for a model without caches.
        available: bytes still free on the device, the weights loaded.
        weights: bytes the weights took of the device; 0 where they do not count against the cache's share.

    Raises:
        ConfigError: one sequence of max_model_len does not fit, and the length was asked for.
    """
    cache = config.cache
    layout = plan_layout(specs, cache.block_size, config.model.max_model_len)
    block_bytes = bytes_per_block(cache, layout)
    if not specs:
        num_blocks = 0
    elif cache.num_blocks is not None:
        num_blocks = cache.num_blocks
    elif cache.memory_bytes is not None:
        num_blocks = cache.memory_bytes // block_bytes
    else:
        num_blocks = min(_budget(config, available, weights) // block_bytes, _most_useful_blocks(config, layout))
    length = checked_length(config.model, cache, config.scheduler, layout, num_blocks)
    return KVCachePlan(layout, num_blocks, block_bytes, length)


def allocate_kv_cache(layout: CacheLayout, dtype: torch.dtype, num_blocks: int, device: torch.device) -> list[KVCache]:
    """One (keys, values) pair per layer, as `executor/attention.py` describes: views into one allocation, in which layers of
    different groups share memory. Pages of host memory are taken when first used.

    Raises:
        ConfigError: the device refuses so much memory.
    """
    shape = (layout.num_planes, num_blocks, layout.plane_width * layout.block_size)
    try:
        memory = host_memory.empty(shape, dtype) if device.type == "cpu" else torch.empty(shape, dtype=dtype, device=device)
    except (MemoryError, torch.OutOfMemoryError) as error:
        wanted = shown_bytes(num_blocks * layout.numbers_per_block * dtype.itemsize)
        raise ConfigError(
            f"cannot allocate a KV cache of {wanted}: lower --kv-cache-memory-bytes, --num-gpu-blocks-override or "
            f"--gpu-memory-utilization ({error})"
        ) from error

    return [_views(memory, layout, place) for place in layout.places]


def _views(memory: torch.Tensor, layout: CacheLayout, place: LayerPlace) -> KVCache:
    """A layer's part of each block: keys and values, or the latent vectors as both."""
    spec = layout.groups[place.group].spec
    views = []
    for plane, start in place.vectors:
        part = memory[plane, :, start : start + spec.width * layout.block_size]
        views.append(part.unflatten(1, (spec.num_kv_heads, layout.block_size, spec.head_dim)))
    return views[0], views[-1]


def _budget(config: EngineConfig, available: int, weights: int) -> int:
    if config.device.type == "cpu":
        return int(available * config.cache.memory_utilization)
    return max(0, int((available + weights) * config.cache.memory_utilization) - weights)


def _most_useful_blocks(config: EngineConfig, layout: CacheLayout) -> int:
    """What max_num_seqs sequences of max_model_len could fill."""
    demand = BlockDemand(layout.groups, layout.block_size)
    return config.scheduler.max_num_seqs * demand.most(config.model.max_model_len, config.scheduler.max_chunk)
