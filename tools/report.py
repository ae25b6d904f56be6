"""A run's numbers for people (a table on the terminal) and for programs (JSON)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from octavo.tools.client import RequestResult
from octavo.tools.metrics import LATENCIES, BenchMetrics, output_len

WIDTH = 52


def table(metrics: BenchMetrics, shown: Sequence[str], facts: dict[str, Any]) -> str:
    """The terminal's table: totals, then a block for each latency in `shown`."""
    lines = [_heading(" Serving Benchmark Result ", "=")]
    lines += [_row("Successful requests", metrics.completed), _row("Failed requests", metrics.failed)]
    if facts.get("max_concurrency") is not None:
        lines.append(_row("Maximum request concurrency", facts["max_concurrency"]))
    if math.isfinite(facts.get("request_rate", math.inf)):
        lines.append(_row("Request rate configured (RPS)", facts["request_rate"]))
    hidden = _OF_OUTPUT if metrics.text_throughput is not None else ()
    totals = {label: getattr(metrics, name) for name, label in _TOTALS.items() if name not in hidden}
    lines += [_row(label, value) for label, value in totals.items() if value is not None]
    for key in shown:
        lines += _latency_rows(key, metrics)
    return "\n".join([*lines, "=" * WIDTH])


_TOTALS = {
    "duration": "Benchmark duration (s)",
    "total_input_tokens": "Total input tokens",
    "total_output_tokens": "Total generated tokens",
    "request_throughput": "Request throughput (req/s)",
    "text_throughput": "Text throughput (texts/s)",
    "request_goodput": "Request goodput (req/s)",
    "output_throughput": "Output token throughput (tok/s)",
    "max_output_tokens_per_s": "Peak output token throughput (tok/s)",
    "max_concurrent_requests": "Peak concurrent requests",
    "total_token_throughput": "Total token throughput (tok/s)",
}

_OF_OUTPUT = ("total_output_tokens", "output_throughput", "max_output_tokens_per_s")
"""What nothing is said of where nothing is generated."""


def _latency_rows(key: str, metrics: BenchMetrics) -> list[str]:
    summary = metrics.latencies[key]
    name = key.upper() if key in ("ttft", "tpot", "itl", "e2el") else LATENCIES[key]
    rows = [_heading(LATENCIES[key], "-"), _row(f"Mean {name} (ms)", summary.mean), _row(f"Median {name} (ms)", summary.median)]
    return rows + [_row(f"P{p:g} {name} (ms)", value) for p, value in summary.percentiles.items()]


def _heading(text: str, fill: str) -> str:
    return f"{text:{fill}^{WIDTH}}"


def _row(label: str, value: float) -> str:
    return f"{label + ':':<40} {value:<10.2f}" if isinstance(value, float) else f"{label + ':':<40} {value:<10}"


def result_document(metrics: BenchMetrics, facts: dict[str, Any], results: Sequence[RequestResult] = ()) -> dict[str, Any]:
    """The JSON result: facts about the run, its numbers, and with `results` every request."""
    rate = facts.get("request_rate", math.inf)
    document = {"date": datetime.now().strftime("%Y%m%d-%H%M%S"), **facts, **metrics.as_dict()}
    document["request_rate"] = rate if math.isfinite(rate) else "inf"
    if results:
        document |= {
            "input_lens": [result.prompt_len for result in results],
            "output_lens": [output_len(result) if result.success else 0 for result in results],
            "ttfts": [result.ttft for result in results],
            "itls": [result.itl for result in results],
            "generated_texts": [result.text for result in results],
            "errors": [result.error for result in results],
        }
    return document


def result_path(document: dict[str, Any], folder: str | None, filename: str | None) -> Path:
    """Where a result goes: --result-filename, or a name made of label, rate, model and time."""
    model = str(document["model_id"]).rstrip("/").split("/")[-1]
    limit = document.get("max_concurrency")
    concurrency = f"-concurrency{limit}" if limit is not None else ""
    label = document.get("label") or document["backend"]
    name = filename or f"{label}-{document['request_rate']}qps{concurrency}-{model}-{document['date']}.json"
    return Path(folder or ".") / name


def save(document: dict[str, Any], path: Path, append: bool) -> None:
    """Write a result as one line of JSON; with `append` behind what the file holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a" if append else "w", encoding="utf-8") as file:
        file.write(json.dumps(document) + "\n")
