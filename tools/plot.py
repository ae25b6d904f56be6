"""Latency against load as a picture: one self-contained HTML file with inline SVG, or a PNG through matplotlib."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.errors import ConfigError
from octavo.tools.measured import facts_table

COLOURS = ("#2563eb", "#dc2626", "#059669", "#9333ea")
WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 34, 44


@dataclass(frozen=True)
class Line:
    """One curve: (load, value) points in order of load."""

    name: str
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """Curves over one pair of axes."""

    title: str
    x_label: str
    y_label: str
    lines: list[Line]


def charts(runs: Sequence[dict[str, Any]], load_key: str) -> list[Chart]:
    """The charts of a sweep: throughput and each latency against the load.

    Args:
        runs: JSON results, one for each load.
        load_key: "max_concurrency" or "request_rate".
    """
    x_label = {"max_concurrency": "concurrent requests", "request_rate": "requests per second"}[load_key]
    loads = [float(run[load_key]) for run in runs]
    result = [
        Chart("Output throughput", x_label, "tokens/s", [Line("output", _points(loads, runs, "output_throughput"))]),
    ]
    for key, title in (("ttft", "Time to first token"), ("tpot", "Time per output token"), ("e2el", "End-to-end latency")):
        names = ["median", *_percentile_names(runs[0], key)]
        lines = [Line(name, _points(loads, runs, f"{name}_{key}_ms")) for name in names]
        result.append(Chart(title, x_label, "ms", lines))
    return result


def write_plot(path: Path, runs: Sequence[dict[str, Any]], load_key: str, facts: Mapping[str, str]) -> None:
    """Write the charts of a sweep to `path`; .html, or .png when matplotlib is installed.

    Args:
        path: the file.
        runs: JSON results, one for each load.
        load_key: "max_concurrency" or "request_rate".
        facts: what was measured, by name; they go beneath the charts of a page.

    Raises:
        ConfigError: another suffix, or no matplotlib.
    """
    title = f"{runs[0].get('model_id', '')} - {runs[0].get('label') or runs[0].get('backend', '')}"
    write_charts(path, charts(runs, load_key), title, _table(runs) + facts_table(facts))


def write_charts(path: Path, pictures: Sequence[Chart], title: str, numbers: str) -> None:
    """Write charts to `path`; in a .html with `numbers` (HTML) beneath them.

    Raises:
        ConfigError: another suffix, or no matplotlib.
    """
    check_plot_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        _write_png(path, pictures)
    else:
        path.write_text(page(title, "\n".join(svg(picture) for picture in pictures), numbers), encoding="utf-8")


def check_plot_path(path: Path) -> None:
    """Raise ConfigError when `write_plot` could not write to this path's format."""
    if path.suffix not in (".html", ".png"):
        raise ConfigError(f"--plot must end in .html or .png, got {path}")
    if path.suffix == ".png":
        pyplot()


def page(title: str, pictures: str, numbers: str) -> str:
    """A self-contained HTML page: title (text), pictures and numbers (HTML)."""
    title = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>'
        f"<body><h1>{title}</h1><main>{pictures}</main>{numbers}</body></html>\n"
    )


_STYLE = (
    "body{font:14px system-ui,sans-serif;margin:24px;color:#1f2937}h1{font-size:18px}main{display:flex;flex-wrap:wrap;gap:16px}"
    "svg{border:1px solid #e5e7eb;border-radius:6px;background:#fff}text{font:11px system-ui,sans-serif;fill:#374151}"
    "table{border-collapse:collapse;margin-top:16px}td,th{border:1px solid #e5e7eb;padding:4px 10px;text-align:right}"
    "h2{font-size:15px}.facts th,.facts td{text-align:left;vertical-align:top}"
)


def svg(chart: Chart) -> str:
    """One chart as an <svg> element; both axes linear, the y axis from zero."""
    xs = [x for line in chart.lines for x, _ in line.points]
    ys = [y for line in chart.lines for _, y in line.points]
    x_ticks, y_ticks = ticks(0.0, max(xs, default=1.0)), ticks(0.0, max(ys, default=1.0))

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * x / x_ticks[-1],
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / y_ticks[-1],
        )

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" role="img">']
    parts.append(f'<text x="{LEFT}" y="18" style="font-weight:600">{html.escape(chart.title)}</text>')
    for tick in x_ticks:
        x, y = place(tick, 0)
        parts.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x:.1f}" y2="{TOP}" stroke="#f3f4f6"/>')
        parts.append(f'<text x="{x:.1f}" y="{y + 15:.1f}" text-anchor="middle">{tick:g}</text>')
    for tick in y_ticks:
        x, y = place(0, tick)
        parts.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    parts += [_curve(line, COLOURS[i % len(COLOURS)], i, place) for i, line in enumerate(chart.lines)]
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">{html.escape(chart.x_label)}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="18" text-anchor="end">{html.escape(chart.y_label)}</text></svg>')
    return "\n".join(parts)


def _curve(line: Line, colour: str, index: int, place: Any) -> str:
    spots = [place(x, y) for x, y in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in spots)
    key = f'<text x="{LEFT + 8}" y="{TOP + 14 + 14 * index}" style="fill:{colour}">{html.escape(line.name)}</text>'
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}{key}'


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values from `low` to at least `high`, `about` steps of 1, 2 or 5 times a power of ten."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / about))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * about >= span * 0.999999)
    count = math.ceil((high - low) / step - 1e-9)
    return [round(low + step * i, 12) for i in range(max(1, count) + 1)]


def _points(loads: Sequence[float], runs: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    return sorted((load, float(run[key])) for load, run in zip(loads, runs, strict=True))


def _percentile_names(run: dict[str, Any], key: str) -> list[str]:
    return sorted(name.split("_")[0] for name in run if name.startswith("p") and name.endswith(f"_{key}_ms"))


def _table(runs: Sequence[dict[str, Any]]) -> str:
    columns = [name for name in _COLUMNS if any(_says_something(run.get(name)) for run in runs)]
    head = "".join(f'<th scope="col">{_COLUMNS[column]}</th>' for column in columns)
    rows = "".join("<tr>" + "".join(f"<td>{_cell(run.get(column))}</td>" for column in columns) + "</tr>" for run in runs)
    return f"<table><tr>{head}</tr>{rows}</table>"


_COLUMNS = {
    "max_concurrency": "Requests at once, at most",
    "request_rate": "Requests sent a second",
    "completed": "Requests answered",
    "failed": "Requests failed",
    "request_throughput": "Requests answered a second",
    "output_throughput": "Output tokens a second",
    "median_ttft_ms": "Median time to first token, ms",
    "median_tpot_ms": "Median time per output token, ms",
    "median_e2el_ms": "Median time to the whole answer, ms",
}


def _says_something(value: Any) -> bool:
    """Not a limit that was not set."""
    return value not in (None, math.inf, "inf")


def _cell(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else html.escape("" if value is None else str(value))


def pyplot() -> Any:
    """matplotlib.pyplot, drawing to files.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise ConfigError("a PNG plot needs matplotlib (pip install 'octavo[plot]'); --plot FILE.html needs nothing") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _write_png(path: Path, pictures: Sequence[Chart]) -> None:
    plt = pyplot()
    rows = -(-len(pictures) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(11, 4 * rows), layout="constrained")
    for chart, ax in zip(pictures, axes.flat, strict=False):
        for line in chart.lines:
            ax.plot(*zip(*line.points, strict=True), marker="o", label=line.name)
        ax.set(title=chart.title, xlabel=chart.x_label, ylabel=chart.y_label)
        ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
        ax.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
