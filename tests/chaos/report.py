"""What a run found, and its tables."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from chaos.judge import Fault

KINDS = ("hung", "refused", "no answer", "cut off", "5xx", "status", "shape")


@dataclass
class FamilyReport:
    """One family's figures; times in seconds."""

    inputs: int = 0
    seconds: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    slow_turns: list[str] = field(default_factory=list)
    longest_turn: float = 0.0
    slowest_probe: float = 0.0


@dataclass
class Report:
    """One run's figures; memory in bytes.

    Attributes:
        ended: processes of the server that ended.
        busy: counts that did not come back to zero.
        own_longest_turn: longest turn by the server's own metric, seconds; None = it has none.
        tracebacks: last lines of the exceptions that the server wrote into its log with all their frames; None = the log was not
            at hand.
    """

    server: str
    families: dict[str, FamilyReport] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    busy: dict[str, float] = field(default_factory=dict)
    control_rounds: int = 0
    control_faults: dict[str, int] = field(default_factory=dict)
    memory_before: int = 0
    memory_peak: int = 0
    memory_after: int = 0
    own_longest_turn: float | None = None
    tracebacks: list[str] | None = None

    def family(self, name: str) -> FamilyReport:
        return self.families.setdefault(name, FamilyReport())

    @property
    def memory_growth(self) -> float:
        """After all of it, relative to before."""
        return self.memory_after / self.memory_before - 1 if self.memory_before else 0.0

    def wrong(self, growth_allowed: float = 0.1) -> list[str]:
        """Why this run is no success; empty when it is one."""
        found = [f"{fault.kind}: {fault.input}: {fault.detail}" for fault in self.faults]
        found += [f"slow turn: {text}" for family in self.families.values() for text in family.slow_turns]
        found += [f"ended: {process}" for process in self.ended]
        found += [f"not back to zero: {name} is {value:g}" for name, value in self.busy.items()]
        found += [f"control stream: {fault}, {count} times" for fault, count in self.control_faults.items()]
        found += [f"traceback in the log: {line}" for line in self.tracebacks or []]
        if self.memory_growth > growth_allowed:
            found.append(f"memory: {mib(self.memory_before)} before, {mib(self.memory_after)} after")
        return found

    def as_dict(self) -> dict[str, Any]:
        families = {
            name: {**vars(family), "statuses": dict(family.statuses), "faults": dict(family.faults)}
            for name, family in self.families.items()
        }
        return {**vars(self), "families": families}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Report:
        families = {
            name: FamilyReport(**{**family, "statuses": Counter(family["statuses"]), "faults": Counter(family["faults"])})
            for name, family in data.pop("families").items()
        }
        faults = [Fault(*fault) for fault in data.pop("faults")]
        return cls(families=families, faults=faults, **data)

    def table(self) -> str:
        """This run, a line a family, as Markdown."""
        lines = ["| family | inputs | 2xx | 4xx | closed or left | " + " | ".join(KINDS) + " | longest turn | slowest probe |"]
        lines.append("|---|" + "---:|" * (lines[0].count("|") - 2))
        for name, family in self.families.items():
            answers = [family.statuses["2xx"], family.statuses["4xx"], family.statuses["none"]]
            faults = [family.faults[kind] for kind in KINDS]
            times = [f"{family.longest_turn * 1e3:.0f} ms", f"{family.slowest_probe * 1e3:.0f} ms"]
            lines.append(f"| {name} | " + " | ".join(map(str, [family.inputs, *answers, *faults, *times])) + " |")
        return "\n".join([*lines, "", *(f"- {name}: {value}" for name, value in self.summary().items())])

    def summary(self) -> dict[str, str]:
        """The figures of the run as a whole."""
        families = self.families.values()
        count = sum((family.faults for family in families), Counter[str]())
        return {
            "inputs": f"{sum(family.inputs for family in families):,}",
            "processes that ended": str(len(self.ended)),
            "inputs without an answer (hung)": str(count["hung"]),
            "connections refused": str(count["refused"]),
            "closed without an answer, or cut off": str(count["no answer"] + count["cut off"]),
            "answers 5xx": str(count["5xx"]),
            "errors not of OpenAI's shape": str(count["shape"]),
            "turns of the event loop over 100 ms": str(sum(len(family.slow_turns) for family in families)),
            "longest turn (processor time of its thread)": f"{max(f.longest_turn for f in families) * 1e3:.0f} ms",
            "longest turn by the server's own metric": "-"
            if self.own_longest_turn is None
            else f"{self.own_longest_turn * 1e3:.0f} ms",
            "slowest answer to /health": f"{max(f.slowest_probe for f in families) * 1e3:.0f} ms",
            "control streams unchanged / failed or changed": f"{self.control_rounds} / {sum(self.control_faults.values())}",
            "counts not back to zero": ", ".join(f"{k} {v:g}" for k, v in self.busy.items()) or "none",
            "tracebacks in the log": "-" if self.tracebacks is None else str(len(self.tracebacks)),
            "memory before, at most, after": f"{mib(self.memory_before)}, {mib(self.memory_peak)}, {mib(self.memory_after)}"
            f" ({self.memory_growth:+.0%})",
        }


def tracebacks(log: str) -> list[str]:
    """The last line of each traceback in a log: what was raised, and what stands under it."""
    blocks = re.findall(r"^Traceback \(most recent call last\):\n((?:[ ].*\n|\n)*)(.*)", log, re.MULTILINE)
    return [
        f"{last[:200]} from {frames.strip().splitlines()[-1].strip()[:200] if frames.strip() else '-'}"
        for frames, last in blocks
    ]


def side_by_side(reports: list[Report]) -> str:
    """Several runs of the same inputs, a column a server, as Markdown."""
    summaries = [report.summary() for report in reports]
    lines = ["| | " + " | ".join(report.server for report in reports) + " |", "|---|" + "---|" * len(reports)]
    lines += [f"| {name} | " + " | ".join(summary[name] for summary in summaries) + " |" for name in summaries[0]]
    return "\n".join(lines)


def mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"
