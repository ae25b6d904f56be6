"""A request's own timings in its answer (--enable-per-request-metrics)."""

from __future__ import annotations

import msgspec

from octavo.outputs import RequestMetrics


class PerRequestMetrics(msgspec.Struct):
    """Milliseconds of one request's phases."""

    queue_time_ms: float
    time_to_first_token_ms: float
    """From being scheduled to the first token."""
    generation_time_ms: float
    """From the first token to the last."""
    mean_itl_ms: float | None
    tokens_per_second: float | None
    speculative_decoding: None = None


def per_request_metrics(metrics: RequestMetrics) -> PerRequestMetrics:
    """The engine's timestamps as durations."""
    generation = max(0.0, metrics.last_token_ts - metrics.first_token_ts)
    gaps = metrics.num_generation_tokens - 1
    return PerRequestMetrics(
        queue_time_ms=1e3 * max(0.0, metrics.scheduled_ts - metrics.queued_ts),
        time_to_first_token_ms=1e3 * max(0.0, metrics.first_token_ts - metrics.scheduled_ts),
        generation_time_ms=1e3 * generation,
        mean_itl_ms=1e3 * generation / gaps if gaps > 0 else None,
        tokens_per_second=gaps / generation if gaps > 0 and generation > 0 else None,
    )
