"""A snapshot of an engine's metrics, as `LLM.get_metrics` gives it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One series: a name and its labels."""

    name: str
    labels: dict[str, str]


@dataclass(frozen=True)
class Counter(Metric):
    """Only grows."""

    value: int


@dataclass(frozen=True)
class Gauge(Metric):
    """As it is now."""

    value: float


@dataclass(frozen=True)
class Vector(Metric):
    """Several counts that belong together, by place."""

    values: list[int]


@dataclass(frozen=True)
class Histogram(Metric):
    """Observations by size.

    Attributes:
        count: observations.
        sum: of all of them.
        buckets: upper bound -> observations up to there; "+Inf" holds all.
    """

    count: int
    sum: float
    buckets: dict[str, int]
