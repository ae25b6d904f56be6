"""What `octavo bench step` prints: where a step's time goes, and tokens a second against the batch size."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from octavo.tools.compare_report import aligned, number
from octavo.tools.plot import Chart, Line

REST = "hand-over, rest"
PARTS = ("schedule", "prepare", "forward", "sample", "output", "IPC", "frontend", REST)
"""In the order in which a step passes them."""
CLIFF = 0.97
"""A batch size is marked when it gives less than this share of the best smaller one's tokens a second."""


@dataclass
class StepTimes:
    """One step's seconds: in all, by part, and the forward part by operation."""

    total: float
    parts: dict[str, float]
    ops: dict[str, float]


@dataclass
class Profile:
    """Medians over equal steps.

    Attributes:
        name: what was measured, for the table's heading.
        num_tokens: that a step computes.
        num_steps: measured.
        weight_bytes: of the matrix products, read once a step.
    """

    name: str
    num_tokens: int
    num_steps: int
    times: StepTimes
    weight_bytes: dict[str, int]

    def table(self) -> str:
        """The parts of the step, the operations of the forward part indented under it."""
        rows = [["", "us/step", "us/token", "share", "MB", "GB/s"]]
        for part in PARTS:
            rows.append(self._row(part, self.times.parts.get(part, 0.0)))
            if part == "forward":
                rows += [self._row(f"  {op}", seconds, self.weight_bytes.get(op)) for op, seconds in self.times.ops.items()]
        rows.append(self._row("step", self.times.total))
        rate = self.num_tokens / self.times.total
        heading = f"{self.name}: {self.times.total * 1e3:.2f} ms a step, {rate:.0f} tokens/s (medians of {self.num_steps})"
        return f"{heading}\n{aligned(rows)}"

    def _row(self, name: str, seconds: float, weight_bytes: int | None = None) -> list[str]:
        row = [name, f"{seconds * 1e6:.0f}", f"{seconds * 1e6 / self.num_tokens:.1f}", f"{seconds / self.times.total:.1%}"]
        if not weight_bytes or not seconds:
            return [*row, "", ""]
        return [*row, number(weight_bytes / 1e6), f"{weight_bytes / seconds / 1e9:.1f}"]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; times in seconds."""
        return asdict(self)


def step_times(total: float, clock: dict[str, float], ops: dict[str, float]) -> StepTimes:
    """What the clocks said of one step, put in order.

    Args:
        clock: of `StepEngine.watch`.
        ops: of `ForwardClock`. The head counts to the forward part, though the sampler calls for it.
    """
    # A head that samples by itself is not called as compute_logits; its own account then says what it took.
    head = clock.get("head", ops.get("head", 0.0))
    parts = {part: clock.get(part, 0.0) for part in PARTS}
    parts["forward"] = clock.get("layers", 0.0) + head
    parts["sample"] = max(0.0, clock.get("head and sample", 0.0) - head)
    parts[REST] = max(0.0, total - sum(parts.values()))
    ops = ops if "head" in ops else {**ops, "head": head}
    other = max(0.0, parts["forward"] - sum(ops.values()))
    return StepTimes(total, parts, {**ops, "other": other})


def medians(steps: Sequence[StepTimes]) -> StepTimes:
    """The median of each number over `steps`."""
    parts = {part: statistics.median(step.parts[part] for step in steps) for part in PARTS}
    names = dict.fromkeys(name for step in steps for name in step.ops)
    ops = {name: statistics.median(step.ops.get(name, 0.0) for step in steps) for name in names}
    return StepTimes(statistics.median(step.total for step in steps), parts, ops)


@dataclass
class SweepPoint:
    """The median step at one batch size, with steps overlapping as they do in a server."""

    batch_size: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return self.batch_size / self.seconds


def sweep_table(points: Sequence[SweepPoint]) -> str:
    """Tokens a second of each batch size, against the best of the smaller ones."""
    rows = [["batch size", "ms/step", "tokens/s", "of best smaller", ""]]
    best = 0.0
    for point in points:
        rate = point.tokens_per_second
        share = f"{rate / best:.2f}x" if best else ""
        rows.append(
            [str(point.batch_size), f"{point.seconds * 1e3:.2f}", f"{rate:.0f}", share, "cliff" if rate < CLIFF * best else ""]
        )
        best = max(best, rate)
    return aligned(rows)


def sweep_charts(points: Sequence[SweepPoint]) -> list[Chart]:
    """Tokens a second and time a step against the batch size."""
    rates = [(float(point.batch_size), point.tokens_per_second) for point in points]
    times = [(float(point.batch_size), point.seconds * 1e3) for point in points]
    return [
        Chart("Decoding", "batch size", "tokens/s", [Line("tokens/s", rates)]),
        Chart("Decode step", "batch size", "ms", [Line("median", times)]),
    ]
