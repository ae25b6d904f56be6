"""Writes the Grafana dashboards in `deploy/grafana`: `python -m octavo.tools.grafana_dashboard deploy/grafana`.

One description, two files: `octavo.json` reads Octavo's metric names, `vllm.json` vLLM's, which a server has with
`--metrics-prefix vllm`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PREFIXES = {"octavo": "Octavo", "vllm": "Octavo, with vLLM's metric names"}
WIDTH, STAT_HEIGHT, GRAPH_HEIGHT = 24, 4, 8
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Panel:
    """A picture of some expressions; `P:` in them stands for the metrics' prefix, `M` for the model's selector.

    Attributes:
        queries: legend -> expression.
        unit: as Grafana names units.
        kind: stat (one number) or timeseries.
    """

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    help: str = ""


def latency(title: str, metric: str, explanation: str) -> Panel:
    """Percentiles of a histogram over time."""
    queries = {
        f"p{quantile * 100:g}": f"histogram_quantile({quantile}, sum by (le) (rate(P:{metric}_bucket{{M}}[$__rate_interval])))"
        for quantile in QUANTILES
    }
    return Panel(title, queries, "s", help=explanation)


STATS = (
    Panel("Running", {"": "sum(P:num_requests_running{M})"}, kind="stat", help="Sequences in the running batch."),
    Panel("Waiting", {"": "sum(P:num_requests_waiting{M})"}, kind="stat", help="Sequences waiting for their first step."),
    Panel("Tokens out", {"": "sum(rate(P:generation_tokens_total{M}[$__rate_interval]))"}, "suffix: tok/s", "stat"),
    Panel("Tokens in", {"": "sum(rate(P:prompt_tokens_total{M}[$__rate_interval]))"}, "suffix: tok/s", "stat"),
    Panel("KV cache in use", {"": "max(P:kv_cache_usage_perc{M})"}, "percentunit", "stat"),
    Panel(
        "Prefix hits",
        {
            "": "sum(rate(P:prefix_cache_hits_total{M}[$__rate_interval])) "
            "/ sum(rate(P:prefix_cache_queries_total{M}[$__rate_interval]))"
        },
        "percentunit",
        "stat",
        "Share of the prompt tokens that were found in the prefix cache.",
    ),
)

GRAPHS = (
    Panel("Requests", {"running": "sum(P:num_requests_running{M})", "waiting": "sum(P:num_requests_waiting{M})"}),
    Panel(
        "Tokens per second",
        {
            "generated": "sum(rate(P:generation_tokens_total{M}[$__rate_interval]))",
            "prompts": "sum(rate(P:prompt_tokens_total{M}[$__rate_interval]))",
        },
        "suffix: tok/s",
    ),
    latency("Time to first token", "time_to_first_token_seconds", "From arrival to the first token."),
    latency("Inter-token latency", "inter_token_latency_seconds", "Between two tokens of a sequence."),
    latency("Request latency", "e2e_request_latency_seconds", "From arrival to the end."),
    latency("Queue time", "request_queue_time_seconds", "Waiting for the first step."),
    Panel("KV cache in use", {"used": "max(P:kv_cache_usage_perc{M})"}, "percentunit"),
    Panel("Preemptions per second", {"preemptions": "sum(rate(P:num_preemptions_total{M}[$__rate_interval]))"}),
    Panel("Requests ended, by reason", {"{{finished_reason}}": "sum by (finished_reason) (rate(P:request_success_total{M}[$__rate_interval]))"}, "reqps"),
    Panel("HTTP answers, by status", {"{{status}}": "sum by (status) (rate(P:http_requests_total[$__rate_interval]))"}, "reqps"),
    Panel("Memory", {"frontend": "process_resident_memory_bytes", "core": "P:core_resident_memory_bytes{M}"}, "bytes"),
    Panel(
        "Processors in use",
        {
            "frontend": "rate(process_cpu_seconds_total[$__rate_interval])",
            "core": "rate(P:core_cpu_seconds_total{M}[$__rate_interval])",
        },
    ),
)  # fmt: skip


def dashboard(prefix: str) -> dict[str, Any]:
    """The dashboard's JSON model for metrics that begin with `prefix:`."""
    panels = [_panel(panel, prefix, index) for index, panel in enumerate((*STATS, *GRAPHS))]
    return {
        "title": PREFIXES[prefix],
        "uid": f"octavo-{prefix}",
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "tags": ["octavo", "llm"],
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_data_source(), _model_variable(prefix)]},
        "panels": panels,
    }


def _panel(panel: Panel, prefix: str, index: int) -> dict[str, Any]:
    return {
        "id": index + 1,
        "title": panel.title,
        "description": panel.help,
        "type": panel.kind,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": _position(index),
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + number), "expr": _expression(query, prefix), "legendFormat": legend}
            for number, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _position(index: int) -> dict[str, int]:
    """One row of numbers, then two graphs a row."""
    if index < len(STATS):
        width = WIDTH // len(STATS)
        return {"x": index * width, "y": 0, "w": width, "h": STAT_HEIGHT}
    row, column = divmod(index - len(STATS), 2)
    return {"x": column * WIDTH // 2, "y": STAT_HEIGHT + row * GRAPH_HEIGHT, "w": WIDTH // 2, "h": GRAPH_HEIGHT}


def _expression(query: str, prefix: str) -> str:
    return query.replace("P:", f"{prefix}:").replace("{M}", '{model_name=~"$model_name"}')


def _data_source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _model_variable(prefix: str) -> dict[str, Any]:
    return {
        "name": "model_name",
        "label": "Model",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": f"label_values({prefix}:num_requests_running, model_name)",
        "includeAll": True,
        "multi": True,
        "refresh": 2,
        "current": {"text": "All", "value": "$__all"},
    }


def main(argv: Sequence[str]) -> int:
    """Write every dashboard into the folder named."""
    folder = Path(argv[0] if argv else "deploy/grafana")
    folder.mkdir(parents=True, exist_ok=True)
    for prefix in PREFIXES:
        path = folder / f"{prefix}.json"
        path.write_text(json.dumps(dashboard(prefix), indent=1) + "\n", encoding="utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
