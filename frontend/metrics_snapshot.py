"""Prometheus families -> plain objects for a program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import Metric as Family
from prometheus_client.samples import Sample

from octavo.frontend.metrics import PrometheusStats
from octavo.metrics import Counter, Gauge, Histogram, Metric


def snapshot(stats: PrometheusStats) -> list[Metric]:
    """Every series as it stands."""
    return [metric for family in stats.collect() for metric in _of_family(family)]


def _of_family(family: Family) -> Iterator[Metric]:
    if family.type == "histogram":
        yield from _histograms(family.name, family.samples)
        return
    for sample in family.samples:
        labels = dict(sample.labels)
        if family.type == "counter":
            yield Counter(family.name, labels, int(sample.value))
        else:
            yield Gauge(family.name, labels, float(sample.value))


def _histograms(name: str, samples: Iterable[Sample]) -> Iterator[Histogram]:
    buckets: dict[str, int] = {}
    for sample in samples:
        labels = dict(sample.labels)
        if sample.name.endswith("_bucket"):
            buckets[labels.pop("le")] = int(sample.value)
        elif sample.name.endswith("_count"):
            count = int(sample.value)
        else:
            yield Histogram(name, labels, count, float(sample.value), buckets)
            buckets = {}
