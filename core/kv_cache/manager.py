"""KV blocks of requests: prefix lookup, growth, publication, release."""

from __future__ import annotations

from collections.abc import Iterable

from octavo.core.kv_cache.block_pool import BlockPool
from octavo.core.kv_cache.hashing import ExtraKey, KeyKind, block_hash, root_hash
from octavo.core.request import Request


class KVCacheManager:
    """Gives requests their blocks and finds what is already computed.

    A request's tokens, by position (the block table covers `num_slots` of them)::

        0 ------ published ------ num_computed ------ len(token_ids) ------ num_expected
        |  findable, full blocks  | sent to executor  |  known, to compute  | sampled, still unknown

    "Computed" means: part of a step that was handed to the executor. Steps run in order, so whatever a later step reads
    has been written by then; and within one step every layer writes all keys and values before it attends, in batch
    order, so that even requests of one step share a prefix. A step that fails takes that back: see `forget_all`.
    """

    def __init__(self, num_blocks: int, block_size: int, enable_prefix_caching: bool) -> None:
        self.block_size = block_size
        self.enable_prefix_caching = enable_prefix_caching
        self._pool = BlockPool(num_blocks)
        self._generation = 0

    @property
    def num_blocks(self) -> int:
        return self._pool.num_blocks

    @property
    def num_free_blocks(self) -> int:
        return self._pool.num_free

    @property
    def num_cached_blocks(self) -> int:
        """Blocks that a prefix lookup can find."""
        return self._pool.num_cached

    @property
    def usage(self) -> float:
        """Share of the blocks that requests hold, 0..1."""
        return 1.0 - self._pool.num_free / self._pool.num_blocks

    def blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def find_prefix(self, request: Request) -> list[int]:
        """Longest run of cached blocks that `request` starts with; at least one token is left to compute.

        The blocks are not taken yet: `admit` the request before anything else is allocated.
        """
        limit = request.max_prefix_hit // self.block_size if self.enable_prefix_caching else 0
        if limit <= 0:
            return []
        self._extend_hashes(request, limit)
        blocks = []
        for content in request.block_hashes[:limit]:
            block = self._pool.find(content)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def free_after(self, request: Request, prefix: list[int]) -> int:
        """Blocks that would be free if `request` were admitted now; negative when there are too few."""
        from_free = sum(1 for block in prefix if self._pool.is_free(block))
        return self._pool.num_free - from_free - (self.blocks_for(len(request.token_ids)) - len(prefix))

    def admit(self, request: Request, prefix: list[int]) -> None:
        """Give a request the blocks for all its known tokens, `prefix` first.

        Raises:
            RuntimeError: too few are free; `free_after` tells before.
        """
        self._extend_hashes(request, 0)
        self._pool.take_cached(prefix)
        blocks = self._pool.allocate(self.blocks_for(len(request.token_ids)) - len(prefix))
        if blocks is None:
            self._pool.release(prefix)
            raise RuntimeError(f"no KV blocks for request {request.request_id}")
        request.block_ids = prefix + blocks
        request.num_slots = len(request.block_ids) * self.block_size
        request.num_published = len(prefix)

    def grow(self, request: Request, num_tokens: int) -> list[int] | None:
        """Blocks to append so that the table covers `num_tokens`; None when too few are free."""
        self.publish(request)
        blocks = self._pool.allocate(self.blocks_for(num_tokens) - len(request.block_ids))
        if blocks is not None:
            request.block_ids += blocks
            request.num_slots = len(request.block_ids) * self.block_size
        return blocks

    def publish(self, request: Request) -> None:
        """Make the request's full blocks findable whose tokens are known and computed."""
        full = min(len(request.token_ids), request.num_computed) // self.block_size
        if full <= request.num_published or not self.enable_prefix_caching:
            return
        if request.hash_generation == self._generation:
            self._extend_hashes(request, full)
            for index in range(request.num_published, full):
                self._pool.publish(request.block_ids[index], request.block_hashes[index])
        request.num_published = full

    def free(self, request: Request) -> None:
        """Take the blocks back; their content stays findable until they are reused."""
        self.publish(request)
        self._pool.release(request.block_ids)
        self._clear(request)

    def discard(self, request: Request) -> None:
        """Take the blocks back and forget their content, for it may be wrong."""
        for block in request.block_ids:
            self._pool.unpublish(block)
        self._pool.release(request.block_ids)
        self._clear(request)

    def forget_all(self) -> None:
        """Nothing computed so far is found any more, nor what running requests add to it later."""
        self._pool.forget_all()
        self._generation += 1

    def check_integrity(self, requests: Iterable[Request]) -> None:
        """Raises: RuntimeError: the pool's books disagree with the block tables of `requests` (all that hold blocks)."""
        self._pool.check_integrity(request.block_ids for request in requests)

    def _clear(self, request: Request) -> None:
        request.block_ids = []
        request.num_slots = 0
        request.num_published = 0

    def _extend_hashes(self, request: Request, count: int) -> None:
        """Hash the request's first `count` blocks, those not hashed yet."""
        if request.hash_generation != self._generation:
            request.hash_generation = self._generation
            request.block_hashes = []
        hashes, size = request.block_hashes, self.block_size
        parent = hashes[-1] if hashes else root_hash(self._root_keys(request))
        for index in range(len(hashes), count):
            parent = block_hash(parent, request.token_ids[index * size : (index + 1) * size])
            hashes.append(parent)

    def _root_keys(self, request: Request) -> list[ExtraKey]:
        keys = [(KeyKind.GENERATION, self._generation.to_bytes(8, "little"))]
        if request.cache_salt is not None:
            keys.append((KeyKind.CACHE_SALT, request.cache_salt.encode("utf-8", "surrogatepass")))
        return keys
