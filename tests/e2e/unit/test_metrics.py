"""Prometheus: numbers add up, and the text is what a scraper reads."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from octavo.config import CacheConfig, DeviceConfig, EngineConfig, ModelConfig, SchedulerConfig
from octavo.frontend.metrics import PrometheusStats
from octavo.frontend.metrics_snapshot import snapshot
from octavo.frontend.process_usage import process_usage
from octavo.frontend.stats import FinishedRequest, IterationStats
from octavo.metrics import Counter, Gauge, Histogram
from octavo.outputs import RequestMetrics
from octavo.wire.messages import Ready, SchedulerStats


def make_config() -> EngineConfig:
    model = ModelConfig(
        name="fake", path="", format="dummy", hf_config={}, architecture="Fake", dtype="float32", max_model_len=64,
        fit_max_model_len=False, vocab_size=50, eos_token_ids=(), generation_config={}, tokenizer_path="",
        served_model_names=("fake",),
    )  # fmt: skip
    return EngineConfig(
        model,
        CacheConfig(4, "float32", 0.5, None, None, enable_prefix_caching=True),
        SchedulerConfig(8, 32, True, 0, "fcfs", True, 0, None, 1),
        DeviceConfig("cpu", 1, "uni"),
    )


def samples(stats: PrometheusStats) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """(name, labels other than the model's) -> value"""
    families = text_string_to_metric_families(stats.text().decode())
    return {
        (s.name.removeprefix("octavo:"), tuple(sorted((k, v) for k, v in s.labels.items() if k != "model_name"))): s.value
        for family in families
        for s in family.samples
    }


def finished(reason: str = "stop", num_tokens: int = 5) -> FinishedRequest:
    times = RequestMetrics(
        arrival_time=10.0,
        queued_ts=10.1,
        scheduled_ts=10.3,
        first_token_ts=11.0,
        last_token_ts=13.0,
        num_generation_tokens=num_tokens,
        num_preemptions=1,
    )
    return FinishedRequest(reason, 100, 32, num_tokens, 16, 1, times, finished_ts=13.5)


def test_counters_and_gauges() -> None:
    stats = PrometheusStats("tiny")
    for _ in range(2):
        scheduler = SchedulerStats(
            3, 4, 0.5, prefix_queries=10, prefix_hits=6, num_preemptions=1, num_steps=1, num_scheduled_tokens=9
        )
        stats.record(scheduler, IterationStats(num_prompt_tokens=7, num_cached_tokens=2, num_generation_tokens=5))
    stats.record(None, IterationStats(finished=[finished("abort")]))
    seen = samples(stats)
    expected = {
        "num_requests_running": 3, "num_requests_waiting": 4, "kv_cache_usage_perc": 0.5, "prefix_cache_queries_total": 20,
        "prefix_cache_hits_total": 12, "num_preemptions_total": 2, "prompt_tokens_total": 14, "prompt_tokens_cached_total": 4,
        "generation_tokens_total": 10, "iteration_tokens_total_count": 2, "iteration_tokens_total_sum": 24,
    }  # fmt: skip
    assert {name: seen[name, ()] for name in expected} == expected
    assert seen["request_success_total", (("finished_reason", "abort"),)] == 1
    assert seen["request_success_total", (("finished_reason", "stop"),)] == 0


def test_waiting_by_reason_sleep_and_cache() -> None:
    stats = PrometheusStats()
    assert not any(name == "cache_config_info" for name, _ in samples(stats)), "before the engine is up"
    stats.set_engine(make_config(), Ready(1, 1, num_blocks=77, block_size=4, max_model_len=64, phases={}))
    assert stats.model_name == "fake"
    stats.record(SchedulerStats(0, 5, 0.0, num_deferred=2), IterationStats())
    stats.record_sleep_state(1)
    seen = samples(stats)
    by_reason = {reason: seen["num_requests_waiting_by_reason", (("reason", reason),)] for reason in ("capacity", "deferred")}
    assert by_reason == {"capacity": 3, "deferred": 2}
    states = {labels[0][1]: value for (name, labels), value in seen.items() if name == "engine_sleep_state"}
    assert states == {"awake": 0, "weights_offloaded": 1, "discard_all": 0}
    [labels] = [dict(labels) for name, labels in seen if name == "cache_config_info"]
    assert (labels["num_gpu_blocks"], labels["block_size"], labels["cache_dtype"]) == ("77", "4", "float32")


def test_the_core_is_measured_while_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = PrometheusStats("tiny", prefix="vllm")
    assert b"core_resident_memory_bytes" not in stats.text(), "before the engine is up"
    stats.core_pid = os.getpid
    before = process_usage(os.getpid())
    assert before is not None
    text = stats.text().decode()
    [memory] = re.findall(r'^vllm:core_resident_memory_bytes\{model_name="tiny"\} (\S+)$', text, re.MULTILINE)
    [seconds] = re.findall(r'^vllm:core_cpu_seconds_total\{model_name="tiny"\} (\S+)$', text, re.MULTILINE)
    assert 0.5 < float(memory) / before.resident_bytes < 2
    assert before.cpu_seconds <= float(seconds) <= time.process_time() + 0.1
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stats.core_pid = lambda: gone.pid
    assert b"core_resident_memory_bytes" not in stats.text()
    assert b"octavo:" not in stats.text()


def test_snapshot_holds_every_series_as_plain_objects() -> None:
    stats = PrometheusStats("tiny")
    stats.record(SchedulerStats(3, 0, 0.5), IterationStats(num_prompt_tokens=9, num_generation_tokens=1))
    found = {metric.name: metric for metric in snapshot(stats) if set(metric.labels) == {"model_name"}}
    assert found["octavo:num_requests_running"] == Gauge("octavo:num_requests_running", {"model_name": "tiny"}, 3.0)
    assert found["octavo:prompt_tokens"] == Counter("octavo:prompt_tokens", {"model_name": "tiny"}, 9)
    steps = found["octavo:iteration_tokens_total"]
    assert isinstance(steps, Histogram)
    assert (steps.count, steps.sum, steps.buckets["8.0"], steps.buckets["16.0"], steps.buckets["+Inf"]) == (1, 10.0, 0, 1, 1)


def test_histograms() -> None:
    stats = PrometheusStats("tiny")
    stats.record(None, IterationStats(time_to_first_token=[0.003, 0.3, 9999.0], inter_token_latency=[0.02] * 4))
    stats.record(None, IterationStats(finished=[finished(), finished(num_tokens=1)]))
    seen = samples(stats)
    buckets = [value for (name, _), value in seen.items() if name == "time_to_first_token_seconds_bucket"]
    assert buckets == sorted(buckets)
    assert seen["time_to_first_token_seconds_bucket", (("le", "0.005"),)] == 1
    assert seen["time_to_first_token_seconds_bucket", (("le", "2560.0"),)] == 2
    assert seen["time_to_first_token_seconds_bucket", (("le", "+Inf"),)] == 3
    sums = {
        "inter_token_latency_seconds": 0.08, "e2e_request_latency_seconds": 7.0, "request_queue_time_seconds": 0.4,
        "request_prefill_time_seconds": 1.4, "request_decode_time_seconds": 4.0, "request_inference_time_seconds": 5.4,
        "request_time_per_output_token_seconds": 0.5, "request_prompt_tokens": 200, "request_generation_tokens": 6,
        "request_params_n": 2, "request_params_max_tokens": 32, "request_num_preemptions": 2,
    }  # fmt: skip
    for name, total in sums.items():
        assert abs(seen[name + "_sum", ()] - total) < 1e-9, name
    assert seen["request_time_per_output_token_seconds_count", ()] == 1


def test_http_requests_are_counted_by_route_and_status() -> None:
    stats = PrometheusStats()
    stats.count_http("POST", "/v1/completions", 200)
    stats.count_http("POST", "/v1/completions", 200)
    stats.count_http("POST", "/v1/completions", 400)
    seen = samples(stats)
    labels = (("handler", "/v1/completions"), ("method", "POST"))
    assert seen["http_requests_total", (*labels, ("status", "200"))] == 2
    assert seen["http_requests_total", (*labels, ("status", "400"))] == 1


def test_every_sample_carries_the_model() -> None:
    stats = PrometheusStats("tiny")
    for family in text_string_to_metric_families(stats.text().decode()):
        if family.name.startswith("octavo:") and family.name != "octavo:http_requests":
            assert all(s.labels["model_name"] == "tiny" for s in family.samples), family.name
