"""The KV blocks: who holds them, what they contain, which one to reuse next. Every operation is O(1) a block."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence


class BlockPool:
    """Reference-counted blocks, some of them findable by the hash of their content.

    A block is in exactly one of three places::

        held (references > 0)  --release-->  free with content (LRU, findable)  or  free and blank
              ^                                        |                                 |
              +------------ take_cached ---------------+------------ allocate -----------+

    Blank blocks are handed out first, then the content that was released longest ago.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._references = [0] * num_blocks
        self._hashes: list[bytes | None] = [None] * num_blocks
        self._block_by_hash: dict[bytes, int] = {}
        self._blank = list(range(num_blocks - 1, -1, -1))
        self._free_cached: OrderedDict[int, None] = OrderedDict()

    @property
    def num_free(self) -> int:
        """Blocks that `allocate` can hand out, those with findable content included."""
        return len(self._blank) + len(self._free_cached)

    @property
    def num_cached(self) -> int:
        """Blocks findable by content, held or free."""
        return len(self._block_by_hash)

    def allocate(self, count: int) -> list[int] | None:
        """`count` blocks with one reference each and undefined content; None, and nothing changes, when too few are free."""
        if count > self.num_free:
            return None
        return [self._allocate_one() for _ in range(count)]

    def find(self, content: bytes) -> int | None:
        """The block with this content, held or free."""
        return self._block_by_hash.get(content)

    def find_run(self, contents: Iterable[bytes]) -> list[int]:
        """The blocks with these contents, up to the first content that is nowhere."""
        blocks = []
        for content in contents:
            block = self._block_by_hash.get(content)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def is_free(self, block: int) -> bool:
        return self._references[block] == 0

    def take_cached(self, blocks: Iterable[int]) -> None:
        """One more reference to each; blocks that were free leave the free list."""
        for block in blocks:
            if self._references[block] == 0:
                del self._free_cached[block]
            self._references[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        """One reference less to each, last block first: the tail of a sequence is reused before what others may share."""
        for block in reversed(blocks):
            self._references[block] -= 1
            if self._references[block] == 0:
                self._make_free(block)

    def publish(self, block: int, content: bytes) -> None:
        """Make a held block findable. Where another block has the same content, that one stays the one to find."""
        if self._hashes[block] is None and content not in self._block_by_hash:
            self._hashes[block] = content
            self._block_by_hash[content] = block

    def unpublish(self, block: int) -> None:
        """Make a held block's content unfindable."""
        content = self._hashes[block]
        if content is not None:
            del self._block_by_hash[content]
            self._hashes[block] = None

    def forget(self, content: bytes) -> None:
        """Make this content unfindable, whether its block is held, free or nowhere."""
        block = self.find(content)
        if block is None:
            return
        self.unpublish(block)
        if self.is_free(block):
            del self._free_cached[block]
            self._blank.append(block)

    def forget_all(self) -> None:
        """Make all content unfindable; holders keep their blocks."""
        self._block_by_hash.clear()
        self._hashes = [None] * self.num_blocks
        self._blank.extend(self._free_cached)
        self._free_cached.clear()

    def check_integrity(self, held: Iterable[Sequence[int]]) -> None:
        """Compare the books with the block tables of everyone who holds blocks.

        Raises:
            RuntimeError: a block is leaked, free and held at once, or listed wrongly.
        """
        expected = [0] * self.num_blocks
        for blocks in held:
            for block in blocks:
                expected[block] += 1
        if expected != self._references:
            wrong = [block for block in range(self.num_blocks) if expected[block] != self._references[block]]
            raise RuntimeError(f"KV blocks {wrong[:8]} have other reference counts than block tables that hold them")
        free = sorted([*self._blank, *self._free_cached])
        if free != [block for block in range(self.num_blocks) if expected[block] == 0]:
            raise RuntimeError("the list of free KV blocks differs from the blocks that nobody holds")
        if any(self._hashes[block] is not None for block in self._blank):
            raise RuntimeError("a blank KV block has content")
        published = {content: block for block, content in enumerate(self._hashes) if content is not None}
        if published != self._block_by_hash:
            raise RuntimeError("the index of KV block contents is inconsistent")

    def _allocate_one(self) -> int:
        if self._blank:
            block = self._blank.pop()
        else:
            block, _ = self._free_cached.popitem(last=False)
            self.unpublish(block)
        self._references[block] = 1
        return block

    def _make_free(self, block: int) -> None:
        if self._hashes[block] is None:
            self._blank.append(block)
        else:
            self._free_cached[block] = None
