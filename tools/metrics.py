"""From timed requests to the numbers of a benchmark; arithmetic only.

TTFT, ITL and E2EL are measured per request (`client.RequestResult`). TPOT is (E2EL - TTFT) / (output tokens - 1), for
requests with more than one output token.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from octavo.errors import ConfigError
from octavo.tools.client import RequestResult

LATENCIES = {
    "ttft": "Time to First Token",
    "tpot": "Time per Output Token (excl. 1st token)",
    "itl": "Inter-token Latency",
    "e2el": "End-to-end Latency",
    "client_queue_time": "Client Queue Time",
}
GOODPUT_KEYS = ("ttft", "tpot", "e2el")


@dataclass
class Summary:
    """The distribution of one latency, in milliseconds."""

    mean: float
    median: float
    std: float
    percentiles: dict[float, float]


@dataclass
class BenchMetrics:
    """A run's numbers. Throughputs are per second, latencies in milliseconds."""

    duration: float
    completed: int
    failed: int
    total_input_tokens: int
    total_output_tokens: int
    request_throughput: float
    request_goodput: float | None
    output_throughput: float
    total_token_throughput: float
    max_output_tokens_per_s: float
    max_concurrent_requests: int
    text_throughput: float | None = None
    """Of texts that were embedded; None where text was generated."""
    latencies: dict[str, Summary] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Flat, with keys such as mean_ttft_ms and p99_itl_ms."""
        flat: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "latencies"}
        if self.text_throughput is None:
            del flat["text_throughput"]
        for key, summary in self.latencies.items():
            flat |= {f"mean_{key}_ms": summary.mean, f"median_{key}_ms": summary.median, f"std_{key}_ms": summary.std}
            flat |= {f"p{percentile:g}_{key}_ms": value for percentile, value in summary.percentiles.items()}
        return flat


def summarize(
    results: Sequence[RequestResult],
    duration: float,
    *,
    percentiles: Sequence[float] = (99,),
    goodput: dict[str, float] | None = None,
) -> BenchMetrics:
    """The numbers of a run.

    Args:
        duration: seconds from the first request sent to the last answer.
        goodput: limits in milliseconds by "ttft", "tpot", "e2el"; a request counts when it meets them all.
    """
    done = [result for result in results if result.success]
    input_tokens = sum(result.prompt_len for result in done)
    output_tokens = sum(output_len(result) for result in done)
    num_texts = sum(result.num_texts for result in done)
    series = {key: [value * 1000 for result in done for value in _values(key, result)] for key in LATENCIES}
    return BenchMetrics(
        duration=duration,
        completed=len(done),
        failed=len(results) - len(done),
        total_input_tokens=input_tokens,
        total_output_tokens=output_tokens,
        request_throughput=len(done) / duration,
        request_goodput=sum(meets(result, goodput) for result in done) / duration if goodput else None,
        output_throughput=output_tokens / duration,
        total_token_throughput=(input_tokens + output_tokens) / duration,
        max_output_tokens_per_s=peak_tokens_per_second(done),
        max_concurrent_requests=peak_concurrency(done),
        text_throughput=num_texts / duration if num_texts else None,
        latencies={key: _summary(values, percentiles) for key, values in series.items()},
    )


def output_len(result: RequestResult) -> int:
    """Output tokens: the server's count, else one a chunk that brings any."""
    return result.output_len if result.output_len >= 0 else len(result.itl) + 1


def tpot(result: RequestResult) -> float | None:
    """Seconds per output token after the first; None for a single token."""
    tokens = output_len(result)
    return (result.latency - result.ttft) / (tokens - 1) if tokens > 1 else None


def meets(result: RequestResult, limits: dict[str, float]) -> bool:
    """Whether a request keeps within every limit (milliseconds)."""
    measured = {"ttft": result.ttft, "tpot": tpot(result) or 0.0, "e2el": result.latency}
    return all(measured[key] * 1000 <= limit for key, limit in limits.items())


def peak_tokens_per_second(results: Sequence[RequestResult]) -> float:
    """Most tokens within one whole second of the run; a request's tokens count as evenly spread over its chunks."""
    if not results:
        return 0.0
    start = min(result.sent for result in results)
    buckets: dict[int, float] = defaultdict(float)
    for result in results:
        times = result.chunk_times()
        for time in times:
            buckets[int(time - start)] += output_len(result) / len(times)
    return max(buckets.values())


def peak_concurrency(results: Sequence[RequestResult]) -> int:
    """Most requests in flight at one moment."""
    # At equal times an end goes before a start: back-to-back requests do not overlap.
    edges = sorted([(r.sent, 1) for r in results] + [(r.sent + r.latency, -1) for r in results])
    peak = running = 0
    for _, step in edges:
        running += step
        peak = max(peak, running)
    return peak


def percentile(values: Sequence[float], p: float) -> float:
    """The p-th percentile, between the nearest values in proportion; nan of nothing."""
    if not values:
        return math.nan
    ordered = sorted(values)
    position = (len(ordered) - 1) * p / 100
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def parse_goodput(words: Sequence[str]) -> dict[str, float]:
    """["ttft:200", "tpot:20"] -> {"ttft": 200.0, "tpot": 20.0}

    Raises:
        ConfigError: an unknown key or a limit that is no number.
    """
    limits = {}
    for word in words:
        key, _, value = word.partition(":")
        try:
            limits[key] = float(value)
        except ValueError:
            raise ConfigError(f"--goodput must look like ttft:200 (milliseconds), got {word!r}") from None
        if key not in GOODPUT_KEYS or not limits[key] >= 0:
            raise ConfigError(f"--goodput keys are {', '.join(GOODPUT_KEYS)} with limits of at least 0, got {word!r}")
    return limits


def _values(key: str, result: RequestResult) -> list[float]:
    if key == "itl":
        return result.itl
    if key == "tpot":
        value = tpot(result)
        return [] if value is None else [value]
    return [{"ttft": result.ttft, "e2el": result.latency, "client_queue_time": max(0.0, result.sent - result.scheduled)}[key]]


def _summary(values: list[float], percentiles: Sequence[float]) -> Summary:
    if not values:
        return Summary(0.0, 0.0, 0.0, dict.fromkeys(percentiles, 0.0))
    return Summary(
        mean=statistics.fmean(values),
        median=percentile(values, 50),
        std=statistics.pstdev(values),
        percentiles={p: percentile(values, p) for p in percentiles},
    )
