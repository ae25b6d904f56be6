"""Groups of bars, each relative to the first bar of its group: as inline SVG, or through matplotlib."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.tools import plot
from octavo.tools.compare_report import START, START_METRICS, WORK_METRICS, Comparison, Metric, number
from octavo.tools.measured import circumstances, facts_table

LABEL_WIDTH, BAR, GAP, TOP = 150, 13, 9, 50
WIDTH, VALUE_WIDTH = 560, 110


@dataclass(frozen=True)
class BarChart:
    """Horizontal bars.

    Attributes:
        groups: (name, one value for each server, None where there is none).
    """

    title: str
    servers: list[str]
    groups: list[tuple[str, list[float | None]]]

    def relative(self, values: Sequence[float | None]) -> list[float]:
        """A group's bars divided by its first; 0 for what is missing."""
        base = values[0]
        return [value / base if value is not None and base else 0.0 for value in values]


def comparison_charts(comparison: Comparison) -> list[BarChart]:
    """A chart for each metric of the works, and one of start and memory."""
    works = [work for work in comparison.works if work != START]
    charts = [
        BarChart(_title(metric, comparison), comparison.servers, [(work, _values(comparison, work, metric)) for work in works])
        for metric in WORK_METRICS
    ]
    starts = [(metric.label, _values(comparison, START, metric)) for metric in START_METRICS]
    title = f"{START} ({comparison.servers[0]} = 1, lower is better)"
    return [*charts, BarChart(title, comparison.servers, starts)]


def _title(metric: Metric, comparison: Comparison) -> str:
    direction = "higher" if metric.higher_is_better else "lower"
    return f"{metric.label} ({comparison.servers[0]} = 1, {direction} is better)"


def _values(comparison: Comparison, work: str, metric: Metric) -> list[float | None]:
    cells = [comparison.cell(server, work, metric) for server in comparison.servers]
    return [cell and cell.median for cell in cells]


def write_comparison(path: Path, comparison: Comparison, title: str) -> None:
    """Write the charts to `path`: .html with the table beneath them, or .png when matplotlib is installed.

    Raises:
        ConfigError: another suffix, or no matplotlib.
    """
    plot.check_plot_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    charts = comparison_charts(comparison)
    if path.suffix == ".png":
        _write_png(path, charts)
        return
    body = "\n".join(svg(chart) for chart in charts)
    numbers = f"<pre>{html.escape(comparison.table())}</pre>{facts_table(circumstances())}"
    path.write_text(plot.page(title, body, numbers), encoding="utf-8")


def svg(chart: BarChart) -> str:
    """One chart as an <svg> element; the text at a bar is the value itself."""
    room = WIDTH - LABEL_WIDTH - VALUE_WIDTH
    longest = max((share for _, values in chart.groups for share in chart.relative(values)), default=1.0) or 1.0
    height = TOP + len(chart.groups) * (len(chart.servers) * BAR + GAP) + GAP
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" role="img">']
    parts.append(f'<text x="8" y="18" style="font-weight:600">{html.escape(chart.title)}</text>')
    for i, server in enumerate(chart.servers):
        parts.append(f'<text x="{LABEL_WIDTH + 90 * i}" y="36" style="fill:{_colour(i)}">{html.escape(server)}</text>')
    y = TOP
    for name, values in chart.groups:
        middle = y + len(values) * BAR / 2 + 4
        parts.append(f'<text x="{LABEL_WIDTH - 8}" y="{middle:.1f}" text-anchor="end">{html.escape(name)}</text>')
        for i, (value, share) in enumerate(zip(values, chart.relative(values), strict=True)):
            parts.append(
                _bar(y, room * share / longest, _colour(i), "-" if value is None else f"{number(value)} ({share:.2f})")
            )
            y += BAR
        y += GAP
    return "\n".join([*parts, "</svg>"])


def _bar(y: int, width: float, colour: str, text: str) -> str:
    bar = f'<rect x="{LABEL_WIDTH}" y="{y}" width="{width:.1f}" height="{BAR - 2}" fill="{colour}"/>'
    return f'{bar}<text x="{LABEL_WIDTH + width + 5:.1f}" y="{y + BAR - 3}">{text}</text>'


def _colour(index: int) -> str:
    return plot.COLOURS[index % len(plot.COLOURS)]


def _write_png(path: Path, charts: Sequence[BarChart]) -> None:
    plt = plot.pyplot()
    figure, axes = plt.subplots(-(-len(charts) // 2), 2, figsize=(13, 4 * -(-len(charts) // 2)), layout="constrained")
    for chart, ax in zip(charts, axes.flat, strict=True):
        _draw(ax, chart)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw(ax: Any, chart: BarChart) -> None:
    height = 0.8 / len(chart.servers)
    for i, server in enumerate(chart.servers):
        places = [group + i * height for group in range(len(chart.groups))]
        values = [values[i] for _, values in chart.groups]
        bars = ax.barh(
            places, [chart.relative(values)[i] for _, values in chart.groups], height, label=server, color=_colour(i)
        )
        ax.bar_label(bars, ["-" if value is None else number(value) for value in values], padding=3, fontsize=8)
    ax.set_yticks([group + 0.4 - height / 2 for group in range(len(chart.groups))], [name for name, _ in chart.groups])
    ax.invert_yaxis()
    ax.set_title(chart.title, fontsize=10)
    ax.margins(x=0.2)
    ax.legend(fontsize=8)
