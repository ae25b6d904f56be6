"""Block pool, hashes and the manager."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from core_configs import FULL, make_request
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from octavo.core.kv_cache.block_pool import BlockPool
from octavo.core.kv_cache.hashing import KeyKind, block_hash, root_hash
from octavo.core.kv_cache.manager import KVCacheManager
from octavo.core.request import Client, Request

NUM_BLOCKS = 12


class PoolMachine(RuleBasedStateMachine):
    """The pool against a model: who holds what, and the order in which content was released."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(NUM_BLOCKS)
        self.held: list[list[int]] = []
        self.content: dict[int, bytes] = {}
        self.released: list[int] = []
        self.counter = 0

    @rule(count=st.integers(0, NUM_BLOCKS + 1))
    def allocate(self, count: int) -> None:
        free = self.pool.num_free
        blocks = self.pool.allocate(count)
        if count > free:
            assert blocks is None
            assert self.pool.num_free == free
            return
        assert blocks is not None
        assert len(set(blocks)) == count
        everyone = {block for table in self.held for block in table}
        assert not everyone & set(blocks)
        evicted = [block for block in blocks if block in self.content]
        assert evicted == self.released[: len(evicted)], "the longest free content goes first"
        for block in evicted:
            assert self.pool.find(self.content.pop(block)) is None
            self.released.remove(block)
        self.held.append(blocks)

    @precondition(lambda self: any(self.held))
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        block = data.draw(st.sampled_from([block for table in self.held for block in table]))
        self.counter += 1
        content = b"%d" % self.counter
        self.pool.publish(block, content)
        self.content.setdefault(block, content)

    @precondition(lambda self: self.content)
    @rule(data=st.data())
    def take_cached(self, data: st.DataObject) -> None:
        block = data.draw(st.sampled_from(sorted(self.content)))
        assert self.pool.find(self.content[block]) == block
        self.pool.take_cached([block])
        self.held.append([block])
        if block in self.released:
            self.released.remove(block)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        table = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.pool.release(table)
        still_held = {block for other in self.held for block in other}
        self.released += [b for b in reversed(table) if b in self.content and b not in still_held]

    @precondition(lambda self: self.content)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        block = data.draw(st.sampled_from(sorted(self.content)))
        self.pool.forget(self.content.pop(block))
        self.pool.forget(b"never published")
        self.released = [other for other in self.released if other != block]

    @rule()
    def forget_all(self) -> None:
        self.pool.forget_all()
        self.content.clear()
        self.released.clear()

    @invariant()
    def consistent(self) -> None:
        self.pool.check_integrity(self.held)
        assert self.pool.num_free == NUM_BLOCKS - len({block for table in self.held for block in table})
        assert self.pool.num_cached == len(self.content)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_integrity_check_finds_a_leak_and_a_double_release() -> None:
    pool = BlockPool(4)
    blocks = pool.allocate(2)
    with pytest.raises(RuntimeError, match="reference counts"):
        pool.check_integrity([])
    pool.check_integrity([blocks or []])


_keys = st.lists(st.tuples(st.sampled_from(KeyKind), st.binary(max_size=4)), max_size=3)


@given(st.tuples(_keys, st.lists(st.integers(0, 3), max_size=4)), st.tuples(_keys, st.lists(st.integers(0, 3), max_size=4)))
def test_different_keys_or_tokens_give_different_hashes(
    first: tuple[list[tuple[KeyKind, bytes]], list[int]], second: tuple[list[tuple[KeyKind, bytes]], list[int]]
) -> None:
    def digest(keys: list[tuple[KeyKind, bytes]], tokens: list[int]) -> bytes:
        return block_hash(root_hash(keys), tokens, keys)

    assert (digest(*first) == digest(*second)) == (first == second)


def test_a_hash_depends_on_every_block_before() -> None:
    root = root_hash([])
    assert block_hash(block_hash(root, [1, 2]), [3, 4]) != block_hash(block_hash(root, [1, 5]), [3, 4])
    assert block_hash(root, [1, 2]) != root_hash([(KeyKind.CACHE_SALT, b"")])


def _manager(num_blocks: int) -> KVCacheManager:
    """Blocks of 4 tokens of one group that keeps everything."""
    return KVCacheManager(FULL, num_blocks, 4, enable_prefix_caching=True, max_chunk=64)


def _request(prompt: list[int], salt: str | None = None, **sampling: object) -> Request:
    return Request(make_request("r", prompt, 8, salt=salt, **sampling), Client(b"c"), 0, 64, by_priority=False)


def _compute(kv: KVCacheManager, request: Request) -> int:
    """Admit and compute a request's prompt; returns the prefix hit in tokens."""
    prefix = kv.find_prefix(request)
    kv.admit(request, prefix, len(request.token_ids) - prefix.num_tokens)
    request.num_computed = len(request.token_ids)
    kv.publish(request)
    return prefix.num_tokens


@pytest.mark.parametrize(("length", "hit"), [(3, 0), (4, 0), (5, 4), (8, 4), (9, 8), (12, 8)])
def test_hits_are_whole_blocks_and_leave_a_token_to_compute(length: int, hit: int) -> None:
    kv = _manager(16)
    prompt = list(range(length))
    assert _compute(kv, _request(prompt)) == 0
    assert _compute(kv, _request(prompt)) == hit


def test_salts_separate_tenants() -> None:
    kv = _manager(32)
    prompt = list(range(9))
    assert _compute(kv, _request(prompt, salt="a")) == 0
    assert _compute(kv, _request(prompt)) == 0
    assert _compute(kv, _request(prompt, salt="b")) == 0
    assert _compute(kv, _request(prompt, salt="")) == 0
    assert _compute(kv, _request(prompt, salt="a")) == 8


def test_requests_may_refuse_or_forgo_the_cache() -> None:
    kv = _manager(32)
    prompt = list(range(9))
    _compute(kv, _request(prompt))
    assert _compute(kv, _request(prompt, skip_reading_prefix_cache=True)) == 0
    assert _compute(kv, _request(prompt, prompt_logprobs=1)) == 0
    assert _compute(kv, _request(prompt)) == 8


def test_freed_content_is_found_until_its_block_is_reused_tails_first() -> None:
    kv = _manager(4)
    old = _request(list(range(13)))
    _compute(kv, old)
    kv.free(old)
    assert kv.num_free_blocks == 4
    assert kv.num_cached_blocks == 3
    _compute(kv, _request([40, 41, 42, 43, 44]))
    assert kv.find_prefix(_request(list(range(13)))).num_tokens == 8, "the blank block and the last cached one went"


def test_after_a_reset_nothing_old_is_found_not_even_what_running_requests_add() -> None:
    kv = _manager(16)
    running = _request(list(range(6)))
    _compute(kv, running)
    kv.forget_all()
    running.token_ids += [6, 7, 8]
    running.num_computed = 9
    kv.grow(running, 9)
    assert kv.find_prefix(_request(list(range(9)))).num_tokens == 0
    assert _compute(kv, _request(list(range(9)))) == 0
    assert _compute(kv, _request(list(range(9)))) == 8


def test_discarded_content_is_not_found() -> None:
    kv = _manager(16)
    bad = _request(list(range(9)))
    _compute(kv, bad)
    kv.discard(bad)
    assert kv.find_prefix(_request(list(range(9)))).num_tokens == 0
    kv.check_integrity([])


def test_room_is_told_before_admission() -> None:
    kv = _manager(4)
    first = _request(list(range(9)))
    assert kv.free_after(first, kv.find_prefix(first)) == 1
    _compute(kv, first)
    same, other = _request(list(range(9))), _request(list(range(40, 49)))
    assert kv.free_after(same, kv.find_prefix(same)) == 0
    assert kv.free_after(other, kv.find_prefix(other)) == -2
    with pytest.raises(RuntimeError, match="no KV blocks"):
        kv.admit(other, kv.find_prefix(other), 9)
    kv.free(first)
    assert kv.free_after(same, kv.find_prefix(same)) == 1
    kv.check_integrity([])
