"""Whatever arrives, is aborted, preempted, chunked, shared or fails: everyone gets the right tokens, in order, and all
blocks come back. The fake executor checks each step's bookkeeping and every slot that a request reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from core_configs import FULL, VOCAB_SIZE, make_config, make_pooling, make_request
from fake_executor import chain, expected_tokens
from harness import Harness
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from octavo.cache_groups import BlockDemand, CacheGroup, plan_layout, specs_of_windows
from octavo.config import EngineConfig
from octavo.core.admission import MAX_PREEMPTIONS
from octavo.wire.messages import EventKind, FinishReason

MAX_LEN = 24
_STEMS = ([1] * MAX_LEN, list(range(MAX_LEN)), [3, 1, 4, 1, 5, 9, 2, 6] * 3)


@st.composite
def prompts(draw: st.DrawFn) -> list[int]:
    """Beginnings of a few stems, so that many share a prefix, with tails of their own."""
    stem = draw(st.sampled_from(_STEMS))[: draw(st.integers(1, MAX_LEN - 1))]
    return (stem + draw(st.lists(st.integers(0, 49), max_size=3)))[: MAX_LEN - 1]


_specs = st.integers(0, 12).map(lambda window: specs_of_windows(1, 8, [window])[0])
cache_groups = st.one_of(
    st.just(FULL), st.lists(_specs, max_size=3).map(lambda specs: tuple(CacheGroup(spec, (i,)) for i, spec in enumerate(specs)))
)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    block_size = draw(st.integers(1, 5))
    max_num_seqs = draw(st.integers(1, 6))
    chunked = draw(st.booleans())
    return {
        "block_size": block_size,
        "num_blocks": draw(st.integers(0, 6)),
        "max_num_seqs": max_num_seqs,
        "enable_chunked_prefill": chunked,
        "max_num_batched_tokens": draw(st.integers(max_num_seqs, 16)) if chunked else MAX_LEN,
        "long_prefill_token_threshold": draw(st.integers(0, 5)),
        "policy": draw(st.sampled_from(["fcfs", "priority"])),
        "prefix_caching": draw(st.booleans()),
        "max_model_len": MAX_LEN,
    }


def config_for(options: dict[str, Any], groups: tuple[CacheGroup, ...], drafts: int = 0) -> EngineConfig:
    """The configuration, with so many blocks more than the longest sequence needs."""
    config = make_config(**options)
    needed = BlockDemand(groups, config.cache.block_size, drafts).most(MAX_LEN, config.scheduler.max_chunk)
    num_blocks = needed + options["num_blocks"] * max(1, len(groups))
    return msgspec.structs.replace(config, cache=msgspec.structs.replace(config.cache, num_blocks=num_blocks))


_sampling = st.fixed_dictionaries(
    {},
    optional={
        "eos_token_ids": st.just((7, 8, 9)),
        "stop_token_ids": st.just((10, 11, 12)),
        "min_tokens": st.integers(0, 3),
        "seed": st.integers(0, 2),
        "logprobs": st.just(0),
        "prompt_logprobs": st.just(0),
        "skip_reading_prefix_cache": st.booleans(),
    },
)


class Guesses:
    """Proposes how a request of seed 0 goes on, every few tokens wrong."""

    def __init__(self, max_drafts: int) -> None:
        self.max_drafts = max_drafts

    def propose(self, token_ids: Sequence[int], count: int) -> list[int]:
        right = expected_tokens(list(token_ids), count - len(token_ids) % 2, 0, VOCAB_SIZE)
        return [token if (len(token_ids) + i) % 5 else (token + 1) % VOCAB_SIZE for i, token in enumerate(right)]


class SchedulingMachine(RuleBasedStateMachine):
    """Random traffic; `teardown` lets everything finish and looks at what each request got."""

    faults = False

    @initialize(options=configs(), max_in_flight=st.integers(1, 4), groups=cache_groups, drafts=st.integers(0, 4))
    def start(self, options: dict[str, Any], max_in_flight: int, groups: tuple[CacheGroup, ...], drafts: int) -> None:
        drafter = Guesses(drafts) if drafts else None
        self.harness = Harness(config_for(options, groups, drafts), max_in_flight, groups, drafter)
        self.fcfs = options["policy"] == "fcfs"
        self.count = 0
        self.failed = 0

    @rule(
        prompt=prompts(), max_tokens=st.integers(1, 10), priority=st.integers(0, 2), sampling=_sampling,
        salt=st.sampled_from([None, None, "a"]),
    )  # fmt: skip
    def add(self, prompt: list[int], max_tokens: int, priority: int, sampling: dict[str, Any], salt: str | None) -> None:
        self.count += 1
        sampling["min_tokens"] = min(max_tokens, sampling.get("min_tokens", 0))
        self.harness.add(make_request(f"r{self.count}", prompt, max_tokens, priority=priority, salt=salt, **sampling))

    @rule(prompt=prompts())
    def pool(self, prompt: list[int]) -> None:
        self.count += 1
        self.harness.add(make_pooling(f"r{self.count}", prompt))

    @precondition(lambda self: self.count)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        self.harness.abort(f"r{data.draw(st.integers(1, self.count))}")

    @rule(count=st.integers(1, 6))
    def step(self, count: int) -> None:
        for _ in range(count):
            num_steps = len(self.harness.executor.ledger.submitted)
            self.harness.step()
            self._check_order(num_steps)
            self._check_rows()
            self.harness.core.scheduler.check_integrity()

    @rule()
    def reset_prefix_cache(self) -> None:
        assert self.harness.call("reset_prefix_cache").value is True

    @precondition(lambda self: self.faults)
    @rule(rows=st.integers(0, 2))
    def break_a_step(self, rows: int) -> None:
        """The next step fails as a whole, or some of its rows do."""
        executor = self.harness.executor
        step_id = executor.last_step + 1
        if rows:
            executor.fail_rows[step_id] = rows
        elif not executor.fail_steps & {step_id - 1, step_id - 2, step_id - 3, step_id - 4}:
            executor.fail_steps.add(step_id)

    def teardown(self) -> None:
        if not hasattr(self, "harness"):
            return
        harness = self.harness
        harness.run()
        for request_id, received in harness.received.items():
            if received.request.pooling is not None:
                self._check_pooled(request_id, received)
            elif request_id in harness.aborted:
                expected = harness.expected(received.request)
                assert received.tokens == expected[: len(received.tokens)]
            else:
                self._check_finished(received)
        if self.fcfs:
            self._check_first_come_first_served()

    def _check_rows(self) -> None:
        """Every row of the batch is free or has one running request."""
        table = self.harness.core.scheduler.table
        taken = [request.row for request in table.running]
        assert sorted(taken + table._free_rows) == list(range(self.harness.config.scheduler.max_num_seqs))
        assert all(request.row == -1 for request in table.live.values() if request not in table.running)

    def _check_order(self, num_steps: int) -> None:
        """Whoever joined goes before whoever still waits."""
        table = self.harness.core.scheduler.table
        next_waiting = table.waiting.peek()
        if next_waiting is None or self.faults:
            return
        for step in self.harness.executor.ledger.submitted[num_steps:]:
            joined = [table.live[new.sequence_id] for new in step.joined if new.sequence_id in table.live]
            assert all(request.order < next_waiting.order for request in joined)

    def _check_pooled(self, request_id: str, received: Any) -> None:
        content = 0
        for token in received.request.prompt_token_ids:
            content = chain(content, token)
        assert received.tokens == []
        if request_id not in self.harness.aborted and not (self.faults and received.finish_reason is FinishReason.ERROR):
            assert (received.pooled, received.finish_reason) == ([float(content % 1000)], FinishReason.STOP)

    def _check_finished(self, received: Any) -> None:
        request = received.request
        expected = self.harness.expected(request)
        if received.finish_reason is FinishReason.ERROR:
            assert self.faults
            assert received.error
            assert received.tokens == expected[: len(received.tokens)]
            return
        assert received.tokens == expected
        last = expected[-1]
        if received.finish_reason is FinishReason.STOP:
            assert last in request.sampling.eos_token_ids + request.sampling.stop_token_ids
            assert received.stop_reason == (None if last in request.sampling.eos_token_ids else last)
        else:
            assert received.finish_reason is FinishReason.LENGTH
        num_prompt = len(request.prompt_token_ids)
        wanted = request.sampling.prompt_logprobs is not None
        assert received.prompt_positions == (list(range(1, num_prompt)) if wanted else [])
        if request.sampling.logprobs is not None:
            assert received.logprob_positions == list(range(num_prompt, num_prompt + len(expected)))
        self._check_events(received)

    def _check_events(self, received: Any) -> None:
        assert received.events[:2] == [EventKind.QUEUED, EventKind.SCHEDULED]
        assert received.num_cached_tokens < len(received.request.prompt_token_ids)
        assert received.num_cached_tokens % self.harness.config.cache.block_size == 0
        if self.fcfs and not self.faults:
            assert received.num_preemptions <= MAX_PREEMPTIONS

    def _check_first_come_first_served(self) -> None:
        first_joined = list(dict.fromkeys(key.split("#")[0] for key in self.harness.executor.ledger.joined))
        assert first_joined == sorted(first_joined, key=lambda request_id: int(request_id[1:]))


class FaultyMachine(SchedulingMachine):
    """Traffic with steps and rows that fail: only their requests do."""

    faults = True


TestScheduling = SchedulingMachine.TestCase
TestScheduling.settings = settings(
    max_examples=120, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestFaults = FaultyMachine.TestCase
TestFaults.settings = settings(
    max_examples=80, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@given(
    options=configs(),
    max_in_flight=st.integers(1, 4),
    groups=cache_groups,
    requests=st.lists(st.tuples(prompts(), st.integers(1, 10)), min_size=1, max_size=10),
)
@settings(max_examples=60, deadline=None)
def test_same_tokens_under_every_schedule(
    options: dict[str, Any], max_in_flight: int, groups: tuple[CacheGroup, ...], requests: list[tuple[list[int], int]]
) -> None:
    harness = Harness(config_for(options, groups), max_in_flight, groups)
    for index, (prompt, max_tokens) in enumerate(requests):
        harness.add(make_request(f"r{index}", list(prompt), max_tokens))
    harness.run()
    for received in harness.received.values():
        assert received.tokens == harness.expected(received.request)
        assert received.finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("async_scheduling", [False, True])
def test_a_full_cache_preempts_nobody_more_than_twice_and_all_finish(async_scheduling: bool) -> None:
    """40 requests of 60 tokens on a cache for 400: six times oversubscribed."""
    harness = Harness(
        make_config(
            num_blocks=100, max_num_seqs=40, max_num_batched_tokens=64, max_model_len=64, async_scheduling=async_scheduling
        )
    )
    for index in range(40):
        harness.add(make_request(f"r{index}", [index] * 10, 50))
    harness.run()
    preemptions = [received.num_preemptions for received in harness.received.values()]
    assert 0 < max(preemptions) <= MAX_PREEMPTIONS
    assert sum(preemptions) <= 20, "the lookahead must learn"
    assert all(received.tokens == harness.expected(received.request) for received in harness.received.values())


def test_nobody_is_preempted_more_than_twice_even_if_the_lookahead_never_learns() -> None:
    harness = Harness(make_config(num_blocks=60, max_num_seqs=30, max_num_batched_tokens=64, max_model_len=64))
    for index in range(30):
        harness.add(make_request(f"r{index}", [index] * 4, 50))
    while not harness.core.idle or not harness.executor.ledger.steps:
        harness.step()
        harness.core.scheduler.reserve.lookahead = 1
    preemptions = [received.num_preemptions for received in harness.received.values()]
    assert max(preemptions) == MAX_PREEMPTIONS
    assert all(received.tokens == harness.expected(received.request) for received in harness.received.values())


def test_a_long_prompt_lets_decodes_and_short_prompts_through() -> None:
    harness = Harness(make_config(num_blocks=400, max_num_batched_tokens=16, max_model_len=600))
    decoding = harness.add(make_request("decoding", [1, 2], 100))
    for _ in range(3):
        harness.step()
    long = harness.add(make_request("long", [3] * 500, 4))
    for _ in range(6):
        harness.step()
    known = len(decoding.tokens)
    short = harness.add(make_request("short", [4] * 5, 4))
    for _ in range(4):
        harness.step()
    assert len(decoding.tokens) == known + 4, "one token each step"
    assert short.tokens
    assert not long.tokens
    harness.run()


def test_requests_of_one_step_share_their_prefix() -> None:
    harness = Harness(make_config(max_num_batched_tokens=64))
    for index in range(4):
        harness.add(make_request(f"r{index}", [5] * 17, 3, seed=index))
    harness.run()
    assert harness.executor.ledger.num_prompt_tokens_computed == 17 + 3
    assert [received.num_cached_tokens for received in harness.received.values()] == [0, 16, 16, 16]


def test_a_preempted_request_starts_again_only_when_all_its_tokens_are_known() -> None:
    harness = Harness(make_config(num_blocks=8, max_model_len=32, prefix_caching=False), max_in_flight=3)
    harness.add(make_request("first", [1] * 8, 24))
    second = harness.add(make_request("second", [2] * 8, 24))
    while harness.core.scheduler.num_waiting or not harness.core.scheduler.num_running:
        harness.step()
    while not harness.core.scheduler.num_waiting:
        harness.step()
    waiting = harness.core.scheduler.table.waiting.peek()
    assert waiting is not None
    assert waiting.num_pending, "steps in flight are sampling for it"
    harness.abort("first")
    harness.run()
    assert second.tokens == harness.expected(second.request)
    assert second.num_preemptions == 1


def test_priority_goes_first_and_is_preempted_last() -> None:
    config = make_config(num_blocks=16, max_num_seqs=2, policy="priority", max_model_len=64, prefix_caching=False)
    harness = Harness(config)
    low = harness.add(make_request("low", [1] * 8, 50, priority=5))
    for _ in range(3):
        harness.step()
    high = harness.add(make_request("high", [2] * 8, 50, priority=-5))
    harness.add(make_request("middle", [3] * 8, 50, priority=0))
    harness.run()
    assert low.num_preemptions > 0
    assert high.num_preemptions == 0
    first_joined = list(dict.fromkeys(key.split("#")[0] for key in harness.executor.ledger.joined))
    assert first_joined == ["low", "high", "middle"]


def test_recomputed_tokens_are_no_prefix_hits() -> None:
    harness = Harness(make_config(num_blocks=16, max_num_seqs=4, max_model_len=64))
    for index in range(4):
        harness.add(make_request(f"r{index}", [index] * 9, 40))
    harness.run()
    stats = [message.stats for message in harness.outputs if message.stats is not None]
    assert sum(s.num_preemptions for s in stats) > 0
    assert sum(s.prefix_queries for s in stats) == 36
    assert sum(s.prefix_hits for s in stats) == 0
    assert sum(s.num_steps for s in stats) == len(harness.executor.ledger.steps)
    assert (stats[-1].num_running, stats[-1].num_waiting, stats[-1].kv_usage) == (0, 0, 0.0)


@pytest.mark.parametrize(("num_layers", "window"), [(26, 512), (34, 1024)])
def test_a_long_context_of_a_gemma_3_holds_a_third_of_what_whole_length_would(num_layers: int, window: int) -> None:
    """Five local layers to each global one; 8192 tokens computed in chunks."""
    length, block_size = 8192, 32
    specs = specs_of_windows(1, 256, [window if (i + 1) % 6 else 0 for i in range(num_layers)])
    layout = plan_layout(specs, block_size, length + 64)
    config = make_config(num_blocks=1000, block_size=block_size, max_num_batched_tokens=512, max_model_len=length + 64)
    harness = Harness(config, groups=layout.groups)
    kv = harness.core.scheduler.kv
    prompt = [i * i % VOCAB_SIZE for i in range(length)]
    first = harness.add(make_request("first", prompt, 40))
    most = 0
    while len(first.tokens) < 36:
        harness.step()
        most = max(most, kv.num_blocks - kv.num_free_blocks)
    whole = -(-(length + 36) // block_size) * block_size * sum(spec.size for spec in specs)
    assert (kv.num_blocks - kv.num_free_blocks) * layout.numbers_per_block <= 0.35 * whole
    assert most * layout.numbers_per_block <= 0.45 * whole, "also while the prompt is computed"
    second = harness.add(make_request("second", [*prompt, 3], 2))
    harness.run()
    assert second.num_cached_tokens == length
    assert [received.tokens for received in (first, second)] == [harness.expected(r.request) for r in (first, second)]


def test_without_caches_nothing_is_held_and_all_goes_on() -> None:
    harness = Harness(make_config(num_blocks=64, max_num_batched_tokens=16), groups=())
    received = [harness.add(make_request(f"r{index}", [index] * 20, 5)) for index in range(5)]
    harness.step()
    assert harness.core.scheduler.kv.usage == 0.0
    harness.run()
    assert all(r.tokens == harness.expected(r.request) for r in received)
