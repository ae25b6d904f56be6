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
class Machine:
    """What all threads together can do: bytes read from memory and floating-point operations per second."""

    isa: str
    reads: float
    multiplies: float

    def __str__(self) -> str:
        return f"{self.isa}, reads {self.reads / 1e9:.1f} GB/s, multiplies {self.multiplies / 1e9:.0f} GFLOP/s"


@dataclass
class Profile:
    """Medians over equal steps.

    Attributes:
        name: what was measured, for the table's heading.
        num_tokens: that a step computes.
        num_steps: measured.
        read_bytes: by operation, weights of matrix products and decoded contexts, each read once a step.
        operations: by product, floating-point multiplications and additions.
        machine: what the machine can do.
    """

    name: str
    num_tokens: int
    num_steps: int
    times: StepTimes
    read_bytes: dict[str, int]
    operations: dict[str, int]
    machine: Machine | None = None

    def table(self) -> str:
        """The parts of the step, the operations of the forward part indented under it."""
        rows = [["", "us/step", "us/token", "share", "MB", "GB/s", "of reading", "GFLOP/s", "of multiplying"]]
        for part in PARTS:
            rows.append(self._row(part, self.times.parts.get(part, 0.0)))
            if part == "forward":
                rows += [self._row(f"  {op}", seconds, op) for op, seconds in self.times.ops.items()]
        rows.append(self._row("step", self.times.total))
        rate = self.num_tokens / self.times.total
        heading = f"{self.name}: {self.times.total * 1e3:.2f} ms a step, {rate:.0f} tokens/s (medians of {self.num_steps})"
        return f"{heading}\n{aligned(rows)}"

    def _row(self, name: str, seconds: float, op: str = "") -> list[str]:
        row = [name, f"{seconds * 1e6:.0f}", f"{seconds * 1e6 / self.num_tokens:.1f}", f"{seconds / self.times.total:.1%}"]
        read = self.read_bytes.get(op, 0)
        row.append(number(read / 1e6) if read else "")
        reads, multiplies = (self.machine.reads, self.machine.multiplies) if self.machine else (None, None)
        row += _rate(read, seconds, reads)
        return row + _rate(self.operations.get(op, 0), seconds, multiplies)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; times in seconds."""
        return asdict(self)


def _rate(amount: int, seconds: float, at_best: float | None) -> list[str]:
    """Billions per second, and the share of what the machine can do."""
    if not amount or not seconds:
        return ["", ""]
    rate = amount / seconds
    return [f"{rate / 1e9:.1f}", f"{rate / at_best:.0%}" if at_best else ""]


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
