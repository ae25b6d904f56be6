"""Which of a request's first tokens are in the cache already, in every group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from octavo.core.kv_cache.block_pool import BlockPool
from octavo.core.kv_cache.hashing import group_addresses


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prefix hit; its blocks are found, not yet taken.

    Attributes:
        num_tokens: tokens that need no computing, whole blocks.
        tables: of each group the block table up to there (of a cross-attention group the whole table or nothing). Columns
            that no later token sees are 0.
        first_held: of each group the first column that is needed.
    """

    num_tokens: int
    tables: list[list[int]]
    first_held: list[int]

    def blocks(self) -> Iterator[int]:
        """All blocks of the hit."""
        for table, first in zip(self.tables, self.first_held, strict=True):
            yield from table[first:]


class PrefixSearch:
    """Finds the longest run of blocks that a sequence begins with.

    A group that keeps everything must have all of them. A group with a window of w tokens need only have those that hold the
    last w - 1 tokens before the run's end, for the next token to see.

    Args:
        num_groups: groups there are.
        whole: those that keep everything.
        windows: window -> the groups that have it.
    """

    def __init__(
        self, pool: BlockPool, num_groups: int, whole: Sequence[int], windows: dict[int, list[int]], block_size: int
    ) -> None:
        self._pool = pool
        self._num_groups = num_groups
        self._whole = whole
        self._windows = windows
        self._block_size = block_size

    def first_seen(self, num_tokens: int, window: int) -> int:
        """First column with a token that the one at position `num_tokens` sees through a window."""
        return max(0, num_tokens - window + 1) // self._block_size

    def find(self, group: int, contents: Sequence[bytes]) -> list[int]:
        """Blocks of a group with these contents, up to the first that is not there."""
        return self._pool.find_run(group_addresses(contents, group))

    def run(self, contents: Sequence[bytes]) -> Prefix:
        """Search for blocks with these contents, from the first on."""
        if not self._whole and not self._windows:
            contents = ()
        whole = {}
        for group in self._whole:
            whole[group] = self.find(group, contents)
            contents = contents[: len(whole[group])]
        end = len(contents)
        while (shorter := self._shorter(contents, end)) < end:
            end = shorter
        return self._prefix(contents, end, whole)

    def _shorter(self, contents: Sequence[bytes], end: int) -> int:
        """The longest run that may do where one of `end` blocks may not: up to a block that a window lacks."""
        for window, groups in self._windows.items():
            for column in range(end - 1, self.first_seen(end * self._block_size, window) - 1, -1):
                if not all(self.find(group, contents[column : column + 1]) for group in groups):
                    return column
        return end

    def _prefix(self, contents: Sequence[bytes], end: int, whole: dict[int, list[int]]) -> Prefix:
        tables: list[list[int]] = [[] for _ in range(self._num_groups)]
        first_held = [0] * self._num_groups
        for group, blocks in whole.items():
            tables[group] = blocks[:end]
        for window, groups in self._windows.items():
            first = min(end, self.first_seen(end * self._block_size, window))
            for group in groups:
                first_held[group] = first
                tables[group] = [0] * first + self.find(group, contents[first:end])
        return Prefix(end * self._block_size, tables, first_held)
