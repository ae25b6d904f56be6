"""Arrival times have the statistics that the options promise."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

import pytest

from octavo.errors import ConfigError
from octavo.tools.arrivals import ArrivalOptions, arrival_times

COUNT = 4000


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise([0.0, *times])]


def test_all_at_once() -> None:
    assert arrival_times(ArrivalOptions(), 5, seed=0) == [0.0] * 5


@pytest.mark.parametrize("rate", [0.5, 10.0, 2000.0])
def test_run_has_the_length_the_rate_promises(rate: float) -> None:
    times = arrival_times(ArrivalOptions(request_rate=rate), COUNT, seed=1)
    assert times[-1] == pytest.approx(COUNT / rate)
    assert times == sorted(times)


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0, 100.0])
def test_burstiness_sets_the_spread_of_intervals(burstiness: float) -> None:
    """Gamma with shape k: standard deviation over mean is 1/sqrt(k)."""
    intervals = gaps(arrival_times(ArrivalOptions(request_rate=10.0, burstiness=burstiness), COUNT, seed=2))
    spread = statistics.pstdev(intervals) / statistics.fmean(intervals)
    assert spread == pytest.approx(1 / math.sqrt(burstiness), rel=0.1)


def test_poisson_counts() -> None:
    """With burstiness 1 the number of arrivals in a second has a variance equal to its mean."""
    times = arrival_times(ArrivalOptions(request_rate=10.0), COUNT, seed=3)
    counts = [0] * (int(times[-1]) + 1)
    for time in times:
        counts[int(time)] += 1
    assert statistics.fmean(counts[:-1]) == pytest.approx(10, rel=0.05)
    assert statistics.pvariance(counts[:-1]) == pytest.approx(10, rel=0.25)


@pytest.mark.parametrize("strategy", ["linear", "exponential"])
def test_ramp_up(strategy: str) -> None:
    options = ArrivalOptions(ramp_up_strategy=strategy, ramp_up_start_rps=1.0, ramp_up_end_rps=100.0, burstiness=1000.0)
    intervals = gaps(arrival_times(options, 1000, seed=0))
    assert 1 / intervals[0] == pytest.approx(1.0, rel=0.2)
    assert 1 / statistics.fmean(intervals[-5:]) == pytest.approx(100.0, rel=0.1)
    middle = 1 / statistics.fmean(intervals[495:505])
    assert middle == pytest.approx(50.5 if strategy == "linear" else 10.0, rel=0.1)


def test_seed_decides() -> None:
    options = ArrivalOptions(request_rate=5.0)
    assert arrival_times(options, 50, seed=1) == arrival_times(options, 50, seed=1)
    assert arrival_times(options, 50, seed=1) != arrival_times(options, 50, seed=2)


@pytest.mark.parametrize(
    "options",
    [
        ArrivalOptions(request_rate=0),
        ArrivalOptions(request_rate=-1),
        ArrivalOptions(request_rate=math.nan),
        ArrivalOptions(burstiness=0),
        ArrivalOptions(burstiness=math.inf),
        ArrivalOptions(ramp_up_strategy="linear"),
        ArrivalOptions(ramp_up_start_rps=1),
        ArrivalOptions(ramp_up_strategy="linear", ramp_up_start_rps=0, ramp_up_end_rps=1),
        ArrivalOptions(ramp_up_strategy="linear", ramp_up_start_rps=1, ramp_up_end_rps=2, request_rate=3),
    ],
)
def test_impossible_options(options: ArrivalOptions) -> None:
    with pytest.raises(ConfigError, match="--"):
        arrival_times(options, 10, seed=0)
