"""What is measured of plugins: requests by outcome, seconds by phase, workers that were replaced."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

PHASE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class IOProcessorStats:
    """Of all plugins of an engine; `PrometheusStats.add` puts them beside the engine's other metrics.

    Attributes:
        replaced: plugins, and how many workers of each were replaced.
    """

    def __init__(self) -> None:
        self.replaced: Callable[[], Iterable[tuple[str, int]]] = tuple
        self._outcomes: dict[tuple[str, str], int] = defaultdict(int)
        self._phases: dict[tuple[str, str], list[float]] = {}

    def count(self, plugin: str, outcome: str) -> None:
        """A request has ended: "ok", or the name of its error."""
        self._outcomes[plugin, outcome] += 1

    def observe(self, plugin: str, seconds: dict[str, float]) -> None:
        """Seconds of a request's phases."""
        for phase, value in seconds.items():
            found = self._phases.setdefault((plugin, phase), [0.0] * (len(PHASE_BUCKETS) + 2))
            found[bisect_left(PHASE_BUCKETS, value)] += 1
            found[-1] += value

    def families(self, prefix: str, model_name: str) -> Iterator[Metric]:
        """The metrics as they stand; `prefix` stands before each name, the model's is a label."""
        if not self._outcomes:
            return  # nobody who has no plugins sees more than before
        requests = CounterMetricFamily(
            prefix + "io_processor_requests",
            "Requests of IO Processor plugins.",
            labels=["model_name", "plugin", "outcome"],
        )
        for (plugin, outcome), number in self._outcomes.items():
            requests.add_metric([model_name, plugin, outcome], number)
        yield requests
        replaced = CounterMetricFamily(
            prefix + "io_processor_workers_replaced",
            "Workers of IO Processor plugins that hung or died, and were replaced.",
            labels=["model_name", "plugin"],
        )
        for plugin, number in self.replaced():
            replaced.add_metric([model_name, plugin], number)
        yield replaced
        yield self._phase_family(prefix, model_name)

    def _phase_family(self, prefix: str, model_name: str) -> Metric:
        family = HistogramMetricFamily(
            prefix + "io_processor_phase_seconds",
            "Seconds of a request in each method of its plugin, in the queue for it, and in the model.",
            labels=["model_name", "plugin", "phase"],
        )
        for (plugin, phase), found in self._phases.items():
            running, buckets = 0.0, []
            for bound, number in zip([*map(str, PHASE_BUCKETS), "+Inf"], found[:-1], strict=True):
                running += number
                buckets.append((bound, running))
            family.add_metric([model_name, plugin, phase], buckets, found[-1])
        return family
