"""Pause, sleep and worker calls, between two steps of the core."""

from __future__ import annotations

import pytest
from core_configs import make_config, make_request
from fake_executor import FakeExecutor
from harness import Harness

from octavo.core.engine_core import FatalError
from octavo.wire.messages import FinishReason


@pytest.fixture
def harness() -> Harness:
    return Harness(make_config())


def ok(harness: Harness, method: str, *args: object) -> object:
    reply = harness.call(method, *args)
    assert reply.error is None
    return reply.value


def test_a_pause_keeps_what_runs_and_what_comes(harness: Harness) -> None:
    first = harness.add(make_request("first", [1] * 9, 20))
    for _ in range(5):
        harness.step()
    ok(harness, "pause")
    assert ok(harness, "is_paused") is True
    assert harness.core.idle, "the loop must sleep, not spin"
    had = len(first.tokens)
    assert had > 0
    later = harness.add(make_request("later", [2] * 9, 5))
    for _ in range(5):
        harness.step()
    assert (len(first.tokens), later.tokens) == (had, [])
    assert harness.core.scheduler.num_running == 1, "its blocks are kept"
    ok(harness, "resume")
    harness.run()
    for received in (first, later):
        assert received.tokens == harness.expected(received.request)
        assert received.num_preemptions == 0


def test_who_waits_for_the_end_of_a_pause_is_counted_as_deferred(harness: Harness) -> None:
    ok(harness, "pause")
    harness.add(make_request("r", [1] * 9, 5))
    harness.core.take_messages(wait=False)
    harness.inbox.put((b"nobody", make_request("x", [1])))
    harness.core.take_messages(wait=True)
    stats = harness.outputs[-1].stats
    assert stats is not None
    assert (stats.num_waiting, stats.num_deferred) == (1, 1)
    ok(harness, "resume")
    harness.run()
    stats = harness.outputs[-1].stats
    assert stats is not None
    assert (stats.num_waiting, stats.num_deferred) == (0, 0)


@pytest.mark.parametrize(("level", "released"), [(0, set()), (1, {"kv_cache"}), (2, {"kv_cache", "weights"})])
def test_a_sleeping_core_gives_memory_back_and_loses_no_token(harness: Harness, level: int, released: set[str]) -> None:
    running = [harness.add(make_request(f"r{i}", [i + 1] * 9, 20)) for i in range(3)]
    for _ in range(6):
        harness.step()
    ok(harness, "sleep", level)
    assert harness.executor.released == released
    assert ok(harness, "is_sleeping") is (level > 0)
    ok(harness, "sleep", level)
    assert harness.executor.released == released, "asleep is asleep"
    if level:
        assert "wake_up" in (harness.call("resume").error or "")
        assert harness.core.scheduler.kv.num_free_blocks == harness.core.scheduler.kv.num_blocks
        assert harness.core.scheduler.kv.num_cached_blocks == 0
    ok(harness, "wake_up")
    assert harness.executor.released == set()
    harness.run()
    for received in running:
        assert received.tokens == harness.expected(received.request)


def test_waking_up_part_by_part(harness: Harness) -> None:
    request = harness.add(make_request("r", [1] * 9, 20))
    harness.step()
    ok(harness, "sleep", 2)
    assert "needs the weights first" in (harness.call("wake_up", ["kv_cache"]).error or "")
    assert "weights, kv_cache, scheduling, got 'all'" in (harness.call("wake_up", ["all"]).error or "")
    assert "asleep" in (harness.call("wake_up", ["scheduling"]).error or "")
    ok(harness, "wake_up", ["weights"])
    assert ok(harness, "is_sleeping") is True
    ok(harness, "wake_up", ["kv_cache"])
    assert ok(harness, "is_sleeping") is False
    assert ok(harness, "is_paused") is True
    ok(harness, "wake_up", ["scheduling"])
    harness.run()
    assert request.tokens == harness.expected(request.request)


def test_only_the_kv_cache_can_go(harness: Harness) -> None:
    ok(harness, "release_kv_cache")
    assert harness.executor.released == {"kv_cache"}
    ok(harness, "sleep", 2)
    assert harness.executor.released == {"kv_cache", "weights"}
    ok(harness, "wake_up")
    assert "level must be 0, 1 or 2" in (harness.call("sleep", 3).error or "")


def test_a_reset_may_include_what_runs(harness: Harness) -> None:
    request = harness.add(make_request("r", [1] * 9, 20))
    for _ in range(5):
        harness.step()
    assert ok(harness, "reset_prefix_cache", True) is True
    assert harness.core.scheduler.num_running == 0
    harness.run()
    assert request.tokens == harness.expected(request.request)
    assert request.num_preemptions == 1


def test_worker_calls_find_no_step_in_flight(harness: Harness) -> None:
    harness.add(make_request("r", [1] * 9, 20))
    for _ in range(3):
        harness.step()
    assert ok(harness, "collective_rpc", "describe", [1], {"x": 2}) == [["describe", [1], {"x": 2}]]
    harness.run()


def test_a_pause_that_meets_a_dead_executor_ends_the_core(harness: Harness) -> None:
    request = harness.add(make_request("r", [1], 8))
    harness.step()
    harness.executor.fail_steps = set(range(10))
    harness.executor.healthy = False
    with pytest.raises(FatalError, match="on fire"):
        harness.call("pause")
    assert request.finish_reason is FinishReason.ERROR


def test_an_executor_that_cannot_sleep_says_so(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("release", "restore_weights", "restore_kv_cache", "call_workers"):
        monkeypatch.delattr(FakeExecutor, name)
    assert "FakeExecutor cannot give memory back" in (harness.call("sleep", 1).error or "")
    assert "take no calls" in (harness.call("collective_rpc", "x", [], {}).error or "")
