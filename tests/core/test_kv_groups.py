"""Requests whose caches are groups of several kinds: what a step reads is held and right, and nothing is lost."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import pytest
from core_configs import make_request
from hypothesis import given, settings

from octavo.cache_groups import BlockDemand, CacheGroup, CacheSpec
from octavo.core.kv_cache.hashing import KeyKind, group_addresses
from octavo.core.kv_cache.manager import KVCacheManager
from octavo.core.request import Client, Request

MAX_LEN = 30
ENCODER_LEN = 5
FULL = CacheSpec("full", 1, 8)
CROSS = CacheSpec("cross", 1, 8, max_encoder_tokens=ENCODER_LEN)
STEMS = ([1] * MAX_LEN, list(range(MAX_LEN)), [3, 1, 4, 1, 5, 9] * 5)


def window(size: int) -> CacheSpec:
    return CacheSpec("window", 1, 8, size)


def groups_of(*specs: CacheSpec) -> tuple[CacheGroup, ...]:
    return tuple(CacheGroup(spec, (layer,)) for layer, spec in enumerate(specs))


def new_request(prompt: list[int], salt: str | None = None, sound: bytes | None = None, **sampling: Any) -> Request:
    """`sound`: what an encoder reads."""
    message = make_request("r", prompt, 1000, salt=salt, **sampling)
    request = Request(message, Client(b"c"), 0, 1000, by_priority=False)
    if sound is not None:
        request.num_encoder_tokens = ENCODER_LEN
        request.cache_keys = ((KeyKind.MEDIA, sound),)
    return request


@dataclass
class Work:
    """A request's part of a step, as it was when the step was scheduled."""

    request: Request
    tables: list[list[int]]
    first_held: list[int]
    tokens: list[int]
    start: int
    encodes: bool


class Traffic:
    """A scheduler without a plan. `memory` is the shadow of the cache: what each token's place in a block holds."""

    def __init__(self, specs: list[CacheSpec], block_size: int, slack: int, margin: int, max_chunk: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.groups = groups_of(*specs)
        one = BlockDemand(self.groups, block_size, margin).most(MAX_LEN, max_chunk)
        self.kv = KVCacheManager(self.groups, one + slack, block_size, True, max_chunk, margin)
        self.margin, self.max_chunk = margin, max_chunk
        self.encodes = any(spec.kind == "cross" for spec in specs)
        self.running: list[Request] = []
        self.memory: dict[tuple[int, int], object] = {}
        self.in_flight: deque[list[Work]] = deque()
        self.farthest_start: dict[int, int] = {}
        """By id of a request the farthest position from which a step was scheduled: so much has left its windows."""

    def act(self) -> None:
        actions = [self.step, self.compute_oldest, self.sample, self.take_back, self.end, self.discard, self.forget_all]
        self.random.choices(actions, (40, 30, 30, 6, 4, 2, 1))[0]()
        self.check()

    def step(self) -> None:
        """Some running requests and perhaps a new one; they are computed later, when other steps may have been scheduled."""
        works: list[Work] = []
        for request in list(self.running):
            if request in self.running and request.num_computed < len(request.token_ids) and self.random.random() < 0.8:
                works += self._schedule(request)
        if len(self.running) < 4:
            works += self._admit()
        self.in_flight.append([work for work in works if work.request in self.running])

    def compute_oldest(self) -> None:
        works = self.in_flight.popleft() if self.in_flight else []
        for work in works:
            self._write(work)
        for work in works:
            self._read(work)

    def sample(self) -> None:
        for request in self.running:
            if request.num_computed == len(request.token_ids) < MAX_LEN:
                request.token_ids.append(self.random.randrange(2))

    def take_back(self) -> None:
        """Tokens that were computed are to be computed again, as after rejected drafts."""
        for request in self.running:
            least = max(request.num_cached_tokens, self.farthest_start[id(request)] - self.margin)
            request.num_computed = self.random.randint(min(least, request.num_computed), request.num_computed)

    def end(self) -> None:
        if self.running:
            self._free(self.random.choice(self.running))

    def discard(self) -> None:
        """A request fails: what it holds may not be found again."""
        if not self.running:
            return
        self._compute_all()
        request = self.random.choice(self.running)
        held = {block for table in held_columns(request) for block in table}
        self.kv.discard(request)
        self.running.remove(request)
        del self.farthest_start[id(request)]
        again = new_request(list(request.token_ids), request.cache_salt)
        again.num_encoder_tokens, again.cache_keys = request.num_encoder_tokens, request.cache_keys
        assert not held & set(self.kv.find_prefix(again).blocks())

    def forget_all(self) -> None:
        self.kv.forget_all()

    def check(self) -> None:
        self.kv.check_integrity(self.running)
        held = {block for request in self.running for table in held_columns(request) for block in table}
        assert self.kv.num_free_blocks == self.kv.num_blocks - len(held)
        for request in self.running:
            assert request.num_held <= self.kv.most_blocks(len(request.token_ids), self.max_chunk)

    def finish(self) -> None:
        self._compute_all()
        for request in list(self.running):
            self._free(request)
        assert self.kv.num_free_blocks == self.kv.num_blocks
        self.kv.check_integrity([])

    def _admit(self) -> list[Work]:
        stem = self.random.choice(STEMS)[: self.random.randint(1, MAX_LEN - 1)]
        sound = self.random.choice([b"a", b"b"]) if self.encodes else None
        request = new_request(list(stem), self.random.choice([None, None, "x"]), sound)
        prefix = self.kv.find_prefix(request)
        assert prefix.num_tokens < len(stem)
        free = self.kv.free_after(request, prefix)
        if free < 0:
            return []
        count = self.random.randint(1, min(len(stem) - prefix.num_tokens, self.max_chunk))
        self.kv.admit(request, prefix, count)
        assert self.kv.num_free_blocks >= free
        request.num_computed = request.num_cached_tokens = prefix.num_tokens
        self.running.append(request)
        return [self._work(request, count)]

    def _schedule(self, request: Request) -> list[Work]:
        count = self.random.randint(1, min(len(request.token_ids) - request.num_computed, self.max_chunk))
        while request.num_computed + count > request.num_slots:
            before = [list(table) for table in request.block_ids]
            appended = self.kv.grow(request, request.num_computed + count)
            if appended is not None:
                assert [len(table) for table in request.block_ids] == [
                    len(table) + len(new) for table, new in zip(before, appended, strict=True)
                ]
                break
            victim = self.running[-1]
            self._free(victim)
            if victim is request:
                return []
        return [self._work(request, count)]

    def _work(self, request: Request, count: int) -> Work:
        tables = [list(table) for table in request.block_ids]
        start = request.num_computed
        self.farthest_start[id(request)] = max(start, self.farthest_start.get(id(request), 0))
        encodes = request.num_encoded < request.num_encoder_tokens
        work = Work(request, tables, list(request.first_held), request.token_ids[: start + count], start, encodes)
        request.num_computed += count
        if encodes:
            self.kv.encoded(request)
        self.kv.publish(request)
        return work

    def _free(self, request: Request) -> None:
        self.kv.free(request)
        self.running.remove(request)
        del self.farthest_start[id(request)]

    def _compute_all(self) -> None:
        while self.in_flight:
            self.compute_oldest()

    def _write(self, work: Work) -> None:
        for group, table in enumerate(work.tables):
            if self.groups[group].spec.kind != "cross":
                for position in range(work.start, len(work.tokens)):
                    self.memory[self._place(table, position)] = self._content(work, group, position)
            elif work.encodes:
                for position in range(work.request.num_encoder_tokens):
                    self.memory[self._place(table, position)] = self._encoded(work, group, position)

    def _read(self, work: Work) -> None:
        for group, table in enumerate(work.tables):
            spec = self.groups[group].spec
            if spec.kind == "cross":
                for position in range(work.request.num_encoder_tokens):
                    assert self.memory[self._place(table, position)] == self._encoded(work, group, position)
                continue
            first = max(0, work.start - spec.window + 1) if spec.kind == "window" else 0
            assert first // self.kv.block_size >= work.first_held[group]
            for position in range(first, len(work.tokens)):
                assert self.memory[self._place(table, position)] == self._content(work, group, position)

    def _place(self, table: list[int], position: int) -> tuple[int, int]:
        return table[position // self.kv.block_size], position % self.kv.block_size

    def _content(self, work: Work, group: int, position: int) -> object:
        request = work.request
        return group, request.cache_salt, request.cache_keys, tuple(work.tokens[: position + 1])

    def _encoded(self, work: Work, group: int, position: int) -> object:
        return group, work.request.cache_salt, work.request.cache_keys, position


def held_columns(request: Request) -> list[list[int]]:
    return [table[first:] for table, first in zip(request.block_ids, request.first_held, strict=True)]


@given(
    specs=st.lists(
        st.one_of(st.just(FULL), st.just(CacheSpec("latent", 1, 8)), st.just(CROSS), st.integers(1, 14).map(window)), max_size=4
    ),
    block_size=st.integers(1, 4), slack=st.integers(0, 60), margin=st.integers(0, 3), max_chunk=st.integers(1, 8),
    seed=st.integers(0, 1 << 32),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_what_a_step_reads_is_held_and_right(
    specs: list[CacheSpec], block_size: int, slack: int, margin: int, max_chunk: int, seed: int
) -> None:
    traffic = Traffic(specs, block_size, slack, margin, max_chunk, seed)
    for _ in range(150):
        traffic.act()
    traffic.finish()


# ---- one thing at a time ---------------------------------------------------------------------------------------------


def manager(*specs: CacheSpec, num_blocks: int = 64, block_size: int = 4, **options: Any) -> KVCacheManager:
    return KVCacheManager(groups_of(*specs), num_blocks, block_size, True, **{"max_chunk": 8, **options})


def compute(kv: KVCacheManager, request: Request, until: int | None = None) -> int:
    """Admit a request and compute it in chunks of at most `max_chunk`; returns the prefix hit in tokens."""
    prefix = kv.find_prefix(request)
    until = until or len(request.token_ids)
    kv.admit(request, prefix, min(kv.max_chunk, until - prefix.num_tokens))
    request.num_computed = prefix.num_tokens
    while request.num_computed < until:
        count = min(kv.max_chunk, until - request.num_computed)
        assert kv.grow(request, request.num_computed + count) is not None
        request.num_computed += count
        kv.publish(request)
    return prefix.num_tokens


def test_a_long_prompt_holds_a_window_and_a_chunk_of_it() -> None:
    kv = manager(FULL, window(6))
    request = new_request(list(range(100)))
    compute(kv, request)
    assert [len(table) for table in request.block_ids] == [25, 25]
    assert request.first_held == [0, 22], "the first position of the last chunk, 96, sees positions from 91 on"
    assert request.num_held == 25 + 3
    assert kv.num_free_blocks == 64 - 25 - 3


def test_a_prompt_computed_at_once_is_given_back_with_the_next_token() -> None:
    kv = manager(FULL, window(6), max_chunk=64)
    request = new_request(list(range(41)))
    compute(kv, request)
    assert (request.num_held, request.num_slots) == (22, 41)
    request.token_ids.append(1)
    assert kv.grow(request, 42) == [[], []]
    assert request.num_held == 11 + 2, "position 41 sees positions from 36 on"
    assert request.num_slots == 44, "then only when a block is needed"


def test_what_has_left_a_window_is_found_until_it_is_reused() -> None:
    kv = manager(window(6))
    first = new_request(list(range(30)))
    compute(kv, first)
    kv.free(first)
    for length in (9, 17, 30):
        assert kv.find_prefix(new_request(list(range(length)))).num_tokens == (length - 1) // 4 * 4
    other = new_request([7] * 300)
    kv.admit(other, kv.find_prefix(other), 4 * (64 - 2))
    hit = kv.find_prefix(new_request(list(range(30))))
    assert (hit.num_tokens, len(list(hit.blocks()))) == (24, 2), "what left the window went first, then the tail"


def test_a_hit_ends_where_every_window_has_its_tail() -> None:
    kv = manager(FULL, window(6), window(13), num_blocks=200)
    first = new_request(list(range(41)))
    compute(kv, first)
    content = first.block_hashes[8]
    kv._pool.forget(*group_addresses([content], 1))
    hit = kv.find_prefix(new_request(list(range(41))))
    assert hit.num_tokens == 32, "without block 8 of the first window neither 36 nor 40 tokens will do"
    assert hit.first_held == [0, 6, 5]
    assert [table[:first] for table, first in zip(hit.tables, hit.first_held, strict=True)] == [[], [0] * 6, [0] * 5]
    kv._pool.forget(*group_addresses(first.block_hashes[:1], 0))
    assert kv.find_prefix(new_request(list(range(41)))).num_tokens == 0


def test_a_failed_request_takes_back_what_left_its_windows() -> None:
    kv = manager(window(3))
    request = new_request(list(range(30)))
    compute(kv, request)
    assert request.first_held[0] > 4
    kv.discard(request)
    assert kv.num_cached_blocks == 0
    kv.check_integrity([])


def test_a_margin_for_drafts_keeps_blocks_longer() -> None:
    plain, careful = manager(window(5)), manager(window(5), draft_margin=4)
    first = []
    for kv in (plain, careful):
        request = new_request(list(range(30)))
        compute(kv, request)
        first.append(request.first_held[0])
    assert first == [5, 4]


def test_cross_attention_is_written_once_and_shared_by_what_was_heard() -> None:
    kv = manager(FULL, CROSS)
    first, second, other = (new_request([1, 2, 3, 4, 5], sound=sound) for sound in (b"a", b"a", b"b"))
    for request in (first, second, other):
        compute(kv, request)
        assert len(request.block_ids[1]) == 2
        if request is first:
            assert request.num_encoded == 0, "nobody has written it yet"
            kv.encoded(request)
    assert second.block_ids[1] == first.block_ids[1]
    assert second.num_encoded == ENCODER_LEN
    assert other.num_encoded == 0
    assert not set(other.block_ids[1]) & set(first.block_ids[1])
    assert other.block_ids[0][0] != first.block_ids[0][0], "the same tokens after another sound are other content"


def test_an_encoders_input_that_is_not_named_is_not_shared() -> None:
    kv = manager(FULL, CROSS)
    for _ in range(2):
        request = new_request(list(range(9)))
        request.num_encoder_tokens = ENCODER_LEN
        assert compute(kv, request) == 0
        assert request.num_encoded == 0
        kv.encoded(request)
    assert kv.num_cached_blocks == 0


def test_a_model_without_caches_needs_no_blocks() -> None:
    kv = manager(num_blocks=0)
    request = new_request(list(range(9)))
    assert kv.free_after(request, kv.find_prefix(request)) == 0
    assert compute(kv, request) == 0
    assert request.num_slots > 1 << 40
    assert kv.grow(request, 100) == []
    assert kv.usage == 0.0
    kv.free(request)
    kv.check_integrity([])


def test_a_book_that_does_not_add_up_is_found() -> None:
    kv = manager(FULL, window(4))
    request = new_request(list(range(9)))
    compute(kv, request)
    request.num_held += 1
    with pytest.raises(RuntimeError, match="counts"):
        kv.check_integrity([request])
