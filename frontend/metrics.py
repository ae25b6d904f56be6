"""Prometheus metrics, with vLLM's names under `octavo:`.

Recording runs on the event loop for every step, so values are kept in plain numbers and lists; they become Prometheus
objects only when somebody asks for /metrics.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from octavo.config import EngineConfig
from octavo.frontend.process_usage import process_usage
from octavo.frontend.stats import FinishedRequest, IterationStats
from octavo.wire.messages import Ready, SchedulerStats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "octavo"
"""Stands before a colon and each metric's name, unless another is chosen."""

TTFT_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0,
    2560.0,
)  # fmt: skip
TOKEN_BUCKETS = (
    0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
REQUEST_BUCKETS = (
    0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0,
    7680.0,
)  # fmt: skip
LENGTH_BUCKETS = tuple(base * 10**exponent for exponent in range(6) for base in (1, 2, 5))
N_BUCKETS = (1, 2, 5, 10, 20)
PREEMPTION_BUCKETS = (0, 1, 2, 5, 10)
LOOP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STEP_BUCKETS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


class Histogram:
    """Counts of observations per bucket."""

    __slots__ = ("_bounds", "_counts", "_help", "_name", "_total")

    def __init__(self, name: str, help_text: str, bounds: Sequence[float]) -> None:
        self._name, self._help = name, help_text
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def observe_all(self, values: Sequence[float]) -> None:
        bounds, counts = self._bounds, self._counts
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        self._total += sum(values)

    def family(self, prefix: str, model: str) -> Metric:
        family = HistogramMetricFamily(prefix + self._name, self._help, labels=["model_name"])
        running, buckets = 0, []
        for bound, count in zip([*map(float, self._bounds), "+Inf"], self._counts, strict=True):
            running += count
            buckets.append((str(bound), running))
        family.add_metric([model], buckets, self._total)
        return family


class FamilySource(Protocol):
    """Has metrics of its own."""

    def families(self, prefix: str, model_name: str) -> Iterator[Metric]:
        """As they stand; the prefix stands before each name, the model's is a label."""


class PrometheusStats(Collector):
    """A StatLogger that /metrics reads from.

    Attributes:
        model_name: label of every sample; known once the engine is up.
        core_pid: asked for the core's process whenever somebody reads the metrics; None = what it uses is not among them.
    """

    def __init__(self, model_name: str = "", prefix: str = PREFIX) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.model_name = model_name
        self.core_pid: Callable[[], int] | None = None
        self._prefix = prefix + ":"
        self._gauges = SchedulerStats(num_running=0, num_waiting=0, kv_usage=0.0)
        self._counts = dict.fromkeys(_COUNTERS, 0)
        self._finished = dict.fromkeys(("stop", "length", "abort", "error", "repetition"), 0)
        self._cache_config: dict[str, str] = {}
        self._sleep_level = 0
        self._http: dict[tuple[str, str, int], int] = {}
        self._ttft = Histogram("time_to_first_token_seconds", "From arrival to the first token.", TTFT_BUCKETS)
        self._itl = Histogram("inter_token_latency_seconds", "Between two tokens of a sequence.", TOKEN_BUCKETS)
        self._tpot = Histogram("request_time_per_output_token_seconds", "Mean time a token after the first.", TOKEN_BUCKETS)
        self._e2e = Histogram("e2e_request_latency_seconds", "From arrival to the end.", REQUEST_BUCKETS)
        self._queue = Histogram("request_queue_time_seconds", "Spent waiting for the first step.", REQUEST_BUCKETS)
        self._inference = Histogram("request_inference_time_seconds", "From first step to last token.", REQUEST_BUCKETS)
        self._prefill = Histogram("request_prefill_time_seconds", "From first step to first token.", REQUEST_BUCKETS)
        self._decode = Histogram("request_decode_time_seconds", "From first to last token.", REQUEST_BUCKETS)
        self._prompt_len = Histogram("request_prompt_tokens", "Prompt tokens a request.", LENGTH_BUCKETS)
        self._output_len = Histogram("request_generation_tokens", "Generated tokens a request.", LENGTH_BUCKETS)
        self._max_tokens = Histogram("request_params_max_tokens", "max_tokens asked for.", LENGTH_BUCKETS)
        self._n = Histogram("request_params_n", "n asked for.", N_BUCKETS)
        self._step_tokens = Histogram("iteration_tokens_total", "Prompt and generated tokens a step.", STEP_BUCKETS)
        self._preemptions = Histogram("request_num_preemptions", "Preemptions a request.", PREEMPTION_BUCKETS)
        self._loop_lag = Histogram("event_loop_lag_seconds", "How late a timer of the HTTP event loop came.", LOOP_BUCKETS)
        self._loop_turn = Histogram(
            "event_loop_turn_seconds", "Processor time of the event loop's thread between two such timers.", LOOP_BUCKETS
        )
        self._longest_turn = 0.0
        self._more: list[FamilySource] = []
        self._histograms = [value for value in vars(self).values() if isinstance(value, Histogram)]
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    # ---- recording -------------------------------------------------------------------------------------------------

    def record(self, scheduler: SchedulerStats | None, iteration: IterationStats) -> None:
        counts = self._counts
        if scheduler is not None:
            self._gauges = scheduler
            counts["num_preemptions"] += scheduler.num_preemptions
            counts["prefix_cache_queries"] += scheduler.prefix_queries
            counts["prefix_cache_hits"] += scheduler.prefix_hits
        counts["prompt_tokens"] += iteration.num_prompt_tokens
        counts["prompt_tokens_cached"] += iteration.num_cached_tokens
        counts["core_restarts"] += iteration.core_restarts
        counts["generation_tokens"] += iteration.num_generation_tokens
        # By vLLM's count: a prompt's tokens in the step that gives its first token, however many steps it took.
        num_tokens = iteration.num_prompt_tokens + iteration.num_generation_tokens
        if num_tokens:
            self._step_tokens.observe(num_tokens)
        self._ttft.observe_all(iteration.time_to_first_token)
        self._itl.observe_all(iteration.inter_token_latency)
        for request in iteration.finished:
            self._record_finished(request)

    def _record_finished(self, request: FinishedRequest) -> None:
        self._finished[request.finish_reason] = self._finished.get(request.finish_reason, 0) + 1
        self._prompt_len.observe(request.num_prompt_tokens)
        self._output_len.observe(request.num_generation_tokens)
        self._max_tokens.observe(request.max_tokens)
        self._n.observe(request.n)
        times = request.metrics
        self._preemptions.observe(times.num_preemptions)
        self._e2e.observe(max(0.0, request.finished_ts - times.arrival_time))
        if times.scheduled_ts:
            self._queue.observe(max(0.0, times.scheduled_ts - times.queued_ts))
        if times.first_token_ts:
            decode = max(0.0, times.last_token_ts - times.first_token_ts)
            self._prefill.observe(max(0.0, times.first_token_ts - times.scheduled_ts))
            self._decode.observe(decode)
            self._inference.observe(max(0.0, times.last_token_ts - times.scheduled_ts))
            num_gaps = request.num_generation_tokens / request.n - 1
            if num_gaps > 0:
                self._tpot.observe(decode / num_gaps)

    def set_engine(self, config: EngineConfig, ready: Ready) -> None:
        """The engine is up: what it serves, and with which cache."""
        self.model_name = config.model.served_model_names[0]
        cache = config.cache
        self._cache_config = {
            "block_size": str(cache.block_size),
            "cache_dtype": cache.dtype,
            "enable_prefix_caching": str(cache.enable_prefix_caching),
            "gpu_memory_utilization": str(cache.memory_utilization),
            "kv_cache_memory_bytes": str(cache.memory_bytes),
            "num_gpu_blocks": str(ready.num_blocks),
            "num_gpu_blocks_override": str(cache.num_blocks),
        }

    def add(self, more: FamilySource) -> None:
        """Show these beside the engine's own."""
        self._more.append(more)

    def record_sleep_state(self, level: int) -> None:
        """The engine sleeps since now, or is awake (level 0)."""
        self._sleep_level = level

    def count_http(self, method: str, route: str, status: int) -> None:
        """One HTTP request was answered."""
        key = (method, route, status)
        self._http[key] = self._http.get(key, 0) + 1

    def count_rejection(self) -> None:
        """A request was refused because too much was waiting."""
        self._counts["admission_rejections"] += 1

    def count_disconnect(self) -> None:
        """A client went away before its answer was complete."""
        self._counts["http_disconnects"] += 1

    def record_loop(self, lag: float, busy: float) -> None:
        """A tick of the event loop's clock: how late it came, and what the thread computed since the one before; seconds."""
        self._loop_lag.observe(lag)
        self._loop_turn.observe(busy)
        self._longest_turn = max(self._longest_turn, busy)

    # ---- reading ---------------------------------------------------------------------------------------------------

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        yield from self._gauge_families()
        yield from self._state_families()
        yield from self._core_families()
        for more in self._more:
            yield from more.families(self._prefix, self.model_name)
        for name, help_text in _COUNTERS.items():
            counter = CounterMetricFamily(self._prefix + name, help_text, labels=["model_name"])
            counter.add_metric([self.model_name], self._counts[name])
            yield counter
        success = CounterMetricFamily(
            self._prefix + "request_success", "Requests that ended.", labels=["model_name", "finished_reason"]
        )
        for reason, count in self._finished.items():
            success.add_metric([self.model_name, reason], count)
        yield success
        http = CounterMetricFamily(
            self._prefix + "http_requests", "HTTP requests answered.", labels=["method", "handler", "status"]
        )
        for (method, route, status), count in self._http.items():
            http.add_metric([method, route, str(status)], count)
        yield http
        for histogram in self._histograms:
            yield histogram.family(self._prefix, self.model_name)

    def _gauge_families(self) -> Iterator[Metric]:
        gauges = {
            "num_requests_running": ("Sequences in the running batch.", self._gauges.num_running),
            "num_requests_waiting": ("Sequences waiting to run.", self._gauges.num_waiting),
            "kv_cache_usage_perc": ("Share of KV blocks in use; 1 = all.", self._gauges.kv_usage),
            "event_loop_longest_turn_seconds": ("Largest event_loop_turn_seconds since the start.", self._longest_turn),
        }
        for name, (help_text, value) in gauges.items():
            gauge = GaugeMetricFamily(self._prefix + name, help_text, labels=["model_name"])
            gauge.add_metric([self.model_name], value)
            yield gauge

    def _state_families(self) -> Iterator[Metric]:
        """Gauges with labels of their own."""
        gauges = self._gauges
        reasons = {"capacity": gauges.num_waiting - gauges.num_deferred, "deferred": gauges.num_deferred}
        yield self._labelled("num_requests_waiting_by_reason", "Sequences waiting, by what for.", "reason", reasons)
        states = {
            "awake": self._sleep_level == 0,
            "weights_offloaded": self._sleep_level == 1,
            "discard_all": self._sleep_level == 2,
        }
        yield self._labelled("engine_sleep_state", "1 = the state the engine is in.", "sleep_state", states)
        if self._cache_config:
            labels = {"model_name": self.model_name, **self._cache_config}
            info = GaugeMetricFamily(
                self._prefix + "cache_config_info", "How the KV cache is set up; always 1.", labels=list(labels)
            )
            info.add_metric(list(labels.values()), 1)
            yield info

    def _core_families(self) -> Iterator[Metric]:
        usage = None if self.core_pid is None else process_usage(self.core_pid())
        if usage is None:
            return
        memory = GaugeMetricFamily(
            self._prefix + "core_resident_memory_bytes", "Memory of the engine core's process.", labels=["model_name"]
        )
        memory.add_metric([self.model_name], usage.resident_bytes)
        yield memory
        time = CounterMetricFamily(
            self._prefix + "core_cpu_seconds", "Processor time of the engine core's process.", labels=["model_name"]
        )
        time.add_metric([self.model_name], usage.cpu_seconds)
        yield time

    def _labelled(self, name: str, help_text: str, label: str, values: Mapping[str, float]) -> Metric:
        family = GaugeMetricFamily(self._prefix + name, help_text, labels=["model_name", label])
        for key, value in values.items():
            family.add_metric([self.model_name, key], value)
        return family


_COUNTERS = {
    "prompt_tokens": "Prompt tokens processed.",
    "prompt_tokens_cached": "Prompt tokens found in the prefix cache.",
    "generation_tokens": "Tokens generated.",
    "num_preemptions": "Sequences put back because KV blocks ran out.",
    "prefix_cache_queries": "Prompt tokens looked up in the prefix cache.",
    "prefix_cache_hits": "Prompt tokens found there.",
    "core_restarts": "Engine cores started in the place of one that died.",
    "admission_rejections": "Requests refused because too much was waiting.",
    "http_disconnects": "Clients that went away before their answer was complete.",
}
