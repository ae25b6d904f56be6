"""Copies of whole blocks: what a request that forks writes to must be its own."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.cache_groups import CacheGroup
from octavo.executor.attention import KVCache
from octavo.executor.step import BlockCopies


def copy_blocks(copies: BlockCopies, kv_caches: Sequence[KVCache], groups: Sequence[CacheGroup]) -> None:
    """Copy blocks in the order given, for every layer of their group. The order of numbers within a block stays the kernels' affair."""
    for group, source, destination in zip(copies.groups, copies.sources, copies.destinations, strict=True):
        for layer in groups[group].layers:
            for cache in kv_caches[layer]:
                cache[destination] = cache[source]
