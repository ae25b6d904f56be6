"""The event loop's clock: a busy turn and a late one are told apart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import uvloop
from prometheus_client.parser import text_string_to_metric_families

from octavo.frontend.metrics import PrometheusStats
from octavo.frontend.server.loop_clock import INTERVAL, LoopClock


def compute(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def samples(stats: PrometheusStats) -> dict[str, float]:
    """Value of each sample that is no bucket."""
    families = text_string_to_metric_families(stats.text().decode())
    return {s.name.removeprefix("octavo:"): s.value for family in families for s in family.samples if "le" not in s.labels}


def watched(block: Callable[[], None]) -> dict[str, float]:
    """The clock's metrics after `block()` has run as one turn of a loop."""
    stats = PrometheusStats("tiny")

    async def run() -> None:
        clock = LoopClock(stats)
        clock.start()
        await asyncio.sleep(2 * INTERVAL)
        block()
        await asyncio.sleep(2 * INTERVAL)
        clock.stop()
        ticks = samples(stats)["event_loop_lag_seconds_count"]
        await asyncio.sleep(3 * INTERVAL)
        assert samples(stats)["event_loop_lag_seconds_count"] == ticks > 2

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    return samples(stats)


def test_a_turn_that_computes() -> None:
    seen = watched(lambda: compute(0.3))
    assert seen["event_loop_longest_turn_seconds"] >= 0.3
    assert seen["event_loop_turn_seconds_sum"] >= 0.3
    assert seen["event_loop_lag_seconds_sum"] >= 0.3 - 2 * INTERVAL


def test_a_turn_that_only_waits() -> None:
    seen = watched(lambda: time.sleep(0.3))
    assert seen["event_loop_lag_seconds_sum"] >= 0.3 - 2 * INTERVAL
    assert seen["event_loop_longest_turn_seconds"] < 0.3
