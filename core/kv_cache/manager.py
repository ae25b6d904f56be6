"""KV blocks of requests: prefix lookup, growth, publication, release."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from octavo.cache_groups import BlockDemand, CacheGroup
from octavo.core.kv_cache.block_pool import BlockPool
from octavo.core.kv_cache.hashing import ExtraKey, KeyKind, block_hash, encoder_hash, group_addresses, root_hash
from octavo.core.kv_cache.prefix import Prefix, PrefixSearch
from octavo.core.request import Request

_UNBOUNDED = 1 << 48
"""Blocks that a request without growing tables has."""


class KVCacheManager:
    """Gives requests their blocks and finds what is already computed.

    A request's tokens, by position (up to `num_slots` of them can be computed before it must `grow`)::

        0 ------ published ------ num_computed ------ len(token_ids) ------ num_expected
        |  findable, full blocks  | sent to executor  |  known, to compute  | sampled, still unknown

    "Computed" means: part of a step that was handed to the executor. Steps run in order, so whatever a later step reads
    has been written by then; and within one step every layer writes all keys and values before it attends, in batch
    order, so that even requests of one step share a prefix. A step that fails takes that back: see `forget_all`.

    What a request holds depends on the group. One that keeps everything gets the blocks of all known tokens at admission. One
    with a window gets those that a step needs when the step is scheduled, and gives back those that neither this step nor a
    later one reads: steps in flight may still read them, but whoever gets them next writes in this step at the earliest. One
    of cross-attention gets the blocks of the encoder's output at admission. The columns of a table are absolute, so those
    that were given back stay in it as 0.

    Args:
        groups: of the model's caches; none for a model without.
        max_chunk: most tokens that a step computes of one request.
        draft_margin: tokens by which `num_computed` may be taken back, by all steps in flight together; windows keep the
            blocks that are then needed again.
    """

    def __init__(
        self,
        groups: Sequence[CacheGroup],
        num_blocks: int,
        block_size: int,
        enable_prefix_caching: bool,
        max_chunk: int,
        draft_margin: int = 0,
    ) -> None:
        self.block_size = block_size
        self.enable_prefix_caching = enable_prefix_caching
        self.max_chunk = max_chunk
        self.demand = BlockDemand(groups, block_size, draft_margin)
        self._pool = BlockPool(num_blocks)
        self._draft_margin = draft_margin
        self._num_groups = len(groups)
        kinds = [group.spec.kind for group in groups]
        self._cross = [index for index, kind in enumerate(kinds) if kind == "cross"]
        self._growing = [index for index, kind in enumerate(kinds) if kind != "cross"]
        self._windows: dict[int, list[int]] = {}
        for index, group in enumerate(groups):
            if group.spec.kind == "window":
                self._windows.setdefault(group.spec.window, []).append(index)
        self._whole = [index for index in self._growing if kinds[index] != "window"]
        self._search = PrefixSearch(self._pool, len(groups), self._whole, self._windows, block_size)
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
        return 1.0 - self._pool.num_free / self._pool.num_blocks if self._pool.num_blocks else 0.0

    def most_blocks(self, num_tokens: int, num_to_compute: int) -> int:
        """The most blocks that a sequence of `num_tokens` holds at a time, of which so many are still to be computed."""
        return self.demand.most(num_tokens, max(1, min(num_to_compute, self.max_chunk)))

    def find_prefix(self, request: Request) -> Prefix:
        """Longest run of cached blocks that `request` starts with; at least one token is left to compute.

        The blocks are not taken yet: `admit` the request before anything else is allocated.
        """
        limit = request.max_prefix_hit // self.block_size if self._shares(request) else 0
        self._extend_hashes(request, limit)
        prefix = self._search.run(request.block_hashes[:limit])
        for group, table in self._encoder_tables(request).items():
            prefix.tables[group] = table
        return prefix

    def free_after(self, request: Request, prefix: Prefix) -> int:
        """Blocks that would be free if `request` were admitted now and held the most it needs for its known tokens; negative
        when there are too few.
        """
        blocks = list(prefix.blocks())
        from_free = sum(1 for block in blocks if self._pool.is_free(block))
        num_known = len(request.token_ids)
        return self._pool.num_free - from_free - (self.most_blocks(num_known, num_known) - len(blocks))

    def admit(self, request: Request, prefix: Prefix, count: int) -> None:
        """Give a request the blocks to compute its first `count` tokens after `prefix`, and where everything is kept also
        those for all other known tokens.

        Raises:
            RuntimeError: too few are free; `free_after` tells before.
        """
        self._extend_hashes(request, 0)
        self._pool.take_cached(prefix.blocks())
        request.block_ids, request.first_held = prefix.tables, prefix.first_held
        request.num_held = sum(1 for _ in prefix.blocks())
        request.num_published = prefix.num_tokens // self.block_size
        if any(request.block_ids[group] for group in self._cross):
            request.num_encoded = request.num_encoder_tokens
        wanted = [self._blocks_for(prefix.num_tokens + count)] * self._num_groups
        for group in self._whole:
            wanted[group] = self._blocks_for(len(request.token_ids))
        for group in self._cross:
            wanted[group] = self._blocks_for(request.num_encoder_tokens)
        if self._extend(request, wanted) is None:
            self._release_all(request)
            raise RuntimeError(f"no KV blocks for request {request.request_id}")
        self._set_slots(request, prefix.num_tokens, count)

    def grow(self, request: Request, num_tokens: int) -> list[list[int]] | None:
        """Make every table cover `num_tokens`, for a step that computes them from `num_computed` on.

        Returns:
            Of each group the blocks that were appended; None when too few are free.
        """
        self.publish(request)
        self._leave_windows(request)
        wanted = [self._blocks_for(num_tokens)] * self._num_groups
        for group in self._cross:
            wanted[group] = 0
        appended = self._extend(request, wanted)
        if appended is not None:
            self._set_slots(request, request.num_computed, num_tokens - request.num_computed)
        return appended

    def publish(self, request: Request) -> None:
        """Make the request's full blocks findable whose tokens are known and computed."""
        full = min(len(request.token_ids), request.num_computed) // self.block_size
        if full <= request.num_published or not self._shares(request):
            return
        if request.hash_generation == self._generation:
            self._extend_hashes(request, full)
            for group in self._growing:
                self._publish_group(request, group, full)
        request.num_published = full

    def encoded(self, request: Request) -> None:
        """The step that writes the encoder's output to the request's blocks has been handed to the executor."""
        request.num_encoded = request.num_encoder_tokens
        if not self._shares(request) or request.hash_generation != self._generation:
            return
        contents = self._encoder_contents(request)
        for group in self._cross:
            for block, address in zip(request.block_ids[group], group_addresses(contents, group), strict=True):
                self._pool.publish(block, address)

    def free(self, request: Request) -> None:
        """Take the blocks back; their content stays findable until they are reused."""
        self.publish(request)
        self._release_all(request)

    def discard(self, request: Request) -> None:
        """Take the blocks back and forget their content, for it may be wrong."""
        for block in self._held(request):
            self._pool.unpublish(block)
        if request.hash_generation == self._generation:
            for content in self._left_behind(request):
                self._pool.forget(content)
        self._release_all(request)

    def forget_all(self) -> None:
        """Nothing computed so far is found any more, nor what running requests add to it later."""
        self._pool.forget_all()
        self._generation += 1

    def check_integrity(self, requests: Iterable[Request]) -> None:
        """Compare the books with the block tables of `requests` (all that hold blocks).

        Raises:
            RuntimeError: they disagree.
        """
        tables = []
        for request in requests:
            held = list(self._held(request))
            if len(held) != request.num_held:
                raise RuntimeError(f"request {request.request_id} holds {len(held)} KV blocks and counts {request.num_held}")
            tables.append(held)
        self._pool.check_integrity(tables)

    # ---- tables --------------------------------------------------------------------------------------------------

    def _blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def _extend(self, request: Request, wanted: list[int]) -> list[list[int]] | None:
        """Append blocks until each table has as many columns as wanted; None, and nothing changes, when too few are free."""
        counts = [max(0, columns - len(table)) for columns, table in zip(wanted, request.block_ids, strict=True)]
        blocks = self._pool.allocate(sum(counts))
        if blocks is None:
            return None
        source = iter(blocks)
        appended = [[next(source) for _ in range(count)] for count in counts]
        for group, new in enumerate(appended):
            request.block_ids[group] += new
        request.num_held += len(blocks)
        return appended

    def _set_slots(self, request: Request, start: int, count: int) -> None:
        """After a step that computes `count` tokens from `start` on; after a long one windows have much to give back."""
        columns = min((len(request.block_ids[group]) for group in self._growing), default=_UNBOUNDED)
        request.num_slots = columns * self.block_size
        if self._windows and count > self.block_size:
            request.num_slots = start + count

    def _leave_windows(self, request: Request) -> None:
        """Give back what neither the step being scheduled nor a later one sees."""
        for window, groups in self._windows.items():
            first = self._search.first_seen(request.num_computed - self._draft_margin, window)
            held = request.first_held[groups[0]]
            if first > held:
                self._release_columns(request, groups, held, first)

    def _release_columns(self, request: Request, groups: Sequence[int], start: int, stop: int) -> None:
        blocks = [request.block_ids[group][column] for column in range(start, stop) for group in groups]
        self._pool.release(blocks)
        request.num_held -= len(blocks)
        for group in groups:
            request.block_ids[group][start:stop] = [0] * (stop - start)
            request.first_held[group] = stop

    def _held(self, request: Request) -> Iterator[int]:
        """The request's blocks, column by column."""
        columns = max(map(len, request.block_ids), default=0)
        if len(request.block_ids) == 1:
            yield from request.block_ids[0][request.first_held[0] :]
            return
        for column in range(columns):
            for table, first in zip(request.block_ids, request.first_held, strict=True):
                if first <= column < len(table):
                    yield table[column]

    def _release_all(self, request: Request) -> None:
        self._pool.release(list(self._held(request)))
        request.block_ids, request.first_held = [], []
        request.num_held = request.num_slots = request.num_published = request.num_encoded = 0

    # ---- contents ------------------------------------------------------------------------------------------------

    def _shares(self, request: Request) -> bool:
        """Whether the request's blocks may be found by others. What an encoder read must be known for that."""
        known = not request.num_encoder_tokens or any(kind is KeyKind.MEDIA for kind, _ in request.cache_keys)
        return self.enable_prefix_caching and known

    def _publish_group(self, request: Request, group: int, full: int) -> None:
        first = max(request.num_published, request.first_held[group])
        addresses = group_addresses(request.block_hashes[first:full], group)
        for block, address in zip(request.block_ids[group][first:full], addresses, strict=True):
            self._pool.publish(block, address)

    def _encoder_tables(self, request: Request) -> dict[int, list[int]]:
        """Tables of the cross-attention groups, if all of them are cached."""
        if not self._cross or not request.num_encoder_tokens or not self._shares(request) or request.max_prefix_hit <= 0:
            return {}
        contents = self._encoder_contents(request)
        tables = {group: self._search.find(group, contents) for group in self._cross}
        return tables if all(len(table) == len(contents) for table in tables.values()) else {}

    def _encoder_contents(self, request: Request) -> list[bytes]:
        root = root_hash(self._root_keys(request))
        return [encoder_hash(root, index) for index in range(self._blocks_for(request.num_encoder_tokens))]

    def _left_behind(self, request: Request) -> Iterator[bytes]:
        """Addresses of what the request published and has given back since."""
        for groups in self._windows.values():
            for group in groups:
                count = min(request.first_held[group], request.num_published)
                yield from group_addresses(request.block_hashes[:count], group)

    def _extend_hashes(self, request: Request, count: int) -> None:
        """Hash the request's first `count` blocks, those not hashed yet."""
        if request.hash_generation != self._generation:
            request.hash_generation = self._generation
            request.block_hashes = []
        hashes, size = request.block_hashes, self.block_size
        if len(hashes) >= count:
            return
        parent = hashes[-1] if hashes else root_hash(self._root_keys(request))
        for index in range(len(hashes), count):
            parent = block_hash(parent, request.token_ids[index * size : (index + 1) * size])
            hashes.append(parent)

    def _root_keys(self, request: Request) -> list[ExtraKey]:
        keys = [(KeyKind.GENERATION, self._generation.to_bytes(8, "little"))]
        if request.cache_salt is not None:
            keys.append((KeyKind.CACHE_SALT, request.cache_salt.encode("utf-8", "surrogatepass")))
        return [*keys, *request.cache_keys]
