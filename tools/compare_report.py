"""From the rounds of `compare_peers` to medians and ratios, and their table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Metric(NamedTuple):
    """A number measured in every round."""

    key: str
    label: str
    higher_is_better: bool


WORK_METRICS = (
    Metric("output_throughput", "output tok/s", True),
    Metric("total_token_throughput", "total tok/s", True),
    Metric("median_ttft_ms", "median TTFT ms", False),
    Metric("median_tpot_ms", "median TPOT ms", False),
    Metric("p99_itl_ms", "P99 ITL ms", False),
)
START_METRICS = (
    Metric("first_token_s", "start to first token s", False),
    Metric("idle_mib", "memory after start MiB", False),
    Metric("peak_mib", "peak memory MiB", False),
)
START = "start and memory"
"""Name of the START_METRICS among the works."""


@dataclass
class Sample:
    """The numbers of one server in one round: of one work, or of its start."""

    server: str
    work: str
    round: int
    numbers: dict[str, Any]


class Cell(NamedTuple):
    """A server's number over all rounds."""

    median: float
    spread: float | None
    """Half the distance from the smallest to the largest round, as a share of the median; None of a single round."""


class Comparison:
    """All samples of a comparison, and what can be asked of them.

    Attributes:
        servers: their names; the first is the one the others are compared with.
        works: names of what was measured, the start last.
    """

    def __init__(self, servers: Sequence[str], works: Sequence[str], samples: Sequence[Sample]) -> None:
        self.servers = list(servers)
        self.works = [*works, START]
        self.samples = list(samples)

    @staticmethod
    def metrics(work: str) -> tuple[Metric, ...]:
        """What is measured of a work."""
        return START_METRICS if work == START else WORK_METRICS

    def cell(self, server: str, work: str, metric: Metric) -> Cell | None:
        """Median and spread over the rounds; None when no round measured it."""
        values = [
            float(sample.numbers[metric.key])
            for sample in self.samples
            if (sample.server, sample.work) == (server, work) and metric.key in sample.numbers
        ]
        if not values:
            return None
        median = statistics.median(values)
        return Cell(median, (max(values) - min(values)) / 2 / median if median and len(values) > 1 else None)

    def ratio(self, peer: str, work: str, metric: Metric) -> float | None:
        """The first server's median divided by the peer's; None when either is missing or the peer's is 0."""
        ours, theirs = (self.cell(server, work, metric) for server in (self.servers[0], peer))
        return None if ours is None or theirs is None or not theirs.median else ours.median / theirs.median

    def medians(self) -> dict[str, Any]:
        """{work: {metric: {"higher_is_better", "medians": {server: x}, "ratios": {peer: x}}}}"""
        return {work: {m.key: self._summary(work, m) for m in self.metrics(work)} for work in self.works}

    def _summary(self, work: str, metric: Metric) -> dict[str, Any]:
        cells = {server: self.cell(server, work, metric) for server in self.servers}
        return {
            "higher_is_better": metric.higher_is_better,
            "medians": {server: cell.median for server, cell in cells.items() if cell is not None},
            "ratios": {peer: ratio for peer in self.servers[1:] if (ratio := self.ratio(peer, work, metric)) is not None},
        }

    def table(self) -> str:
        """Medians, with their spread in percent, and ratios: a block for each work.

        A ratio is marked + where the first server is better, - where it is worse.
        """
        base, *peers = self.servers
        ratio_titles = [f"{base}/{peer}" for peer in peers]
        rows = [["", "better", *self.servers, *ratio_titles]]
        for work in self.works:
            rows.append([work] + [""] * (len(rows[0]) - 1))
            rows += [self._row(work, metric) for metric in self.metrics(work)]
        return aligned(rows)

    def _row(self, work: str, metric: Metric) -> list[str]:
        direction = "higher" if metric.higher_is_better else "lower"
        cells = [_cell_text(self.cell(server, work, metric)) for server in self.servers]
        ratios = [_ratio_text(self.ratio(peer, work, metric), metric) for peer in self.servers[1:]]
        return [f"  {metric.label}", direction, *cells, *ratios]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length as text: the first column to the left, the others to the right, a rule beneath the first row."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width) for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([lines[0].rstrip(), "-" * (sum(widths) + 2 * (len(widths) - 1)), *(line.rstrip() for line in lines[1:])])


def number(value: float) -> str:
    """About three significant digits, never in powers of ten."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _cell_text(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    return number(cell.median) if cell.spread is None else f"{number(cell.median)} ±{cell.spread:3.0%}"


def _ratio_text(ratio: float | None, metric: Metric) -> str:
    if ratio is None:
        return "-"
    sign = " " if ratio == 1 else "+" if (ratio > 1) == metric.higher_is_better else "-"
    return f"{ratio:.2f}x {sign}"
