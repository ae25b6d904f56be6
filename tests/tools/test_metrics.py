"""Metric arithmetic on timelines made by hand."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

import pytest

from octavo.errors import ConfigError
from octavo.tools.client import RequestResult
from octavo.tools.metrics import (
    meets,
    parse_goodput,
    peak_concurrency,
    peak_tokens_per_second,
    percentile,
    summarize,
    tpot,
)


def result(sent: float, chunks: list[float], tokens: int = -1, prompt: int = 10) -> RequestResult:
    """A request sent at `sent` whose chunks came at `chunks`."""
    gaps = [later - earlier for earlier, later in pairwise(chunks)]
    return RequestResult(
        prompt_len=prompt,
        scheduled=sent - 0.5,
        sent=sent,
        ttft=chunks[0] - sent,
        itl=gaps,
        latency=chunks[-1] - sent,
        output_len=tokens,
    )


FAST = result(100.0, [100.2, 100.3, 100.4, 100.5], tokens=4)
SLOW = result(100.5, [101.5, 103.5], tokens=3, prompt=20)
FAILED = RequestResult(prompt_len=99, error="500")


def test_totals_and_throughput() -> None:
    metrics = summarize([FAST, SLOW, FAILED], 4.0)
    assert (metrics.completed, metrics.failed) == (2, 1)
    assert (metrics.total_input_tokens, metrics.total_output_tokens) == (30, 7)
    assert metrics.request_throughput == 0.5
    assert metrics.output_throughput == 7 / 4
    assert metrics.total_token_throughput == 37 / 4
    assert metrics.request_goodput is None


def test_latencies() -> None:
    latencies = summarize([FAST, SLOW, FAILED], 4.0, percentiles=(50, 99)).latencies
    assert latencies["ttft"].mean == pytest.approx(600)
    assert latencies["ttft"].std == pytest.approx(400)
    assert latencies["itl"].mean == pytest.approx(statistics.fmean([100, 100, 100, 2000]))
    assert latencies["itl"].median == pytest.approx(100)
    # Fast: 0.3 s over 3 further tokens; slow: 2 s over 2, though they came in one chunk.
    assert latencies["tpot"].mean == pytest.approx((100 + 1000) / 2)
    assert latencies["e2el"].percentiles[50] == pytest.approx((500 + 3000) / 2)
    assert latencies["client_queue_time"].mean == pytest.approx(500)


def test_flat_keys_are_the_usual_ones() -> None:
    flat = summarize([FAST, SLOW], 4.0, percentiles=(99, 99.9)).as_dict()
    for name in ("ttft", "tpot", "itl", "e2el"):
        assert {f"mean_{name}_ms", f"median_{name}_ms", f"std_{name}_ms", f"p99_{name}_ms", f"p99.9_{name}_ms"} <= set(flat)
    assert {"duration", "completed", "request_throughput", "output_throughput", "total_token_throughput"} <= set(flat)


def test_single_token_has_no_tpot() -> None:
    single = result(0.0, [0.5], tokens=1)
    assert tpot(single) is None
    metrics = summarize([single], 1.0)
    assert metrics.latencies["tpot"].mean == 0.0
    assert metrics.total_output_tokens == 1


def test_tokens_are_counted_by_chunk_when_the_server_does_not_say() -> None:
    assert summarize([result(0.0, [1.0, 2.0, 3.0])], 3.0).total_output_tokens == 3


def test_nothing_succeeded() -> None:
    metrics = summarize([FAILED], 2.0)
    assert (metrics.completed, metrics.request_throughput, metrics.max_concurrent_requests) == (0, 0.0, 0)
    assert metrics.latencies["ttft"].mean == 0.0


def test_goodput() -> None:
    limits = {"ttft": 300.0, "tpot": 150.0}
    assert meets(FAST, limits)
    assert not meets(SLOW, limits)
    assert not meets(FAST, {"e2el": 499.0})
    assert summarize([FAST, SLOW, FAILED], 4.0, goodput=limits).request_goodput == 0.25
    assert meets(result(0.0, [0.1], tokens=1), {"tpot": 0.0})


def test_parse_goodput() -> None:
    assert parse_goodput(["ttft:200", "e2el:1e3"]) == {"ttft": 200.0, "e2el": 1000.0}
    for word in ("ttft", "ttft:x", "itl:5", "ttft:-1", "ttft:nan"):
        with pytest.raises(ConfigError, match="--goodput"):
            parse_goodput([word])


def test_peaks() -> None:
    # Chunks at 0.2 .. 0.5 of the first second, then 1.5 and 3.5 after the start, 1.5 tokens each.
    assert peak_tokens_per_second([FAST, SLOW]) == 4
    assert peak_tokens_per_second([SLOW]) == 1.5
    assert peak_tokens_per_second([result(0.0, [0.1, 0.2], tokens=64)]) == 64, "speculative servers send many tokens a chunk"
    assert peak_concurrency([FAST, SLOW]) == 1
    assert peak_concurrency([FAST, result(100.4, [100.6]), result(100.45, [100.6])]) == 3


@pytest.mark.parametrize(("p", "expected"), [(0, 1.0), (25, 1.75), (50, 2.5), (99, 3.97), (100, 4.0)])
def test_percentile_interpolates(p: float, expected: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], p) == pytest.approx(expected)
    assert math.isnan(percentile([], p))
    assert percentile([7.0], p) == 7.0
