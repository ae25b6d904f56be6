"""A step on its way: what the executor computes, and what its result is matched against."""

from __future__ import annotations

from dataclasses import dataclass, field

from octavo.core.constraint import Constraint
from octavo.core.request import Request
from octavo.executor.step import Drafts, StepInput, ints

ONE = ints([1])


@dataclass(slots=True)
class ScheduledStep:
    """A step for the executor, with what its result is matched against."""

    step: StepInput
    requests: list[Request] = field(default_factory=list)
    """Whom the step's rows belong to, in its order: a row may be somebody else's when the result comes."""
    counts: dict[int, int] = field(default_factory=dict)
    """By place in that order, how many tokens are computed where it is not one."""
    inside: set[int] = field(default_factory=set)
    """Places of requests that neither sample in it nor are pooled: they are inside their prompts."""
    prompt_positions: dict[int, int] = field(default_factory=dict)
    """By row the first prompt position scored, for requests that want prompt logprobs."""
    drafts: dict[int, list[int]] = field(default_factory=dict)
    """By row the proposed tokens that it verifies."""
    constraints: dict[int, Constraint] = field(default_factory=dict)
    """By row what those keep to that sample in it and may not sample every token."""
    preempted: bool = False

    @property
    def finishing(self) -> list[Request]:
        """The requests that sample in it, or are pooled."""
        if not self.inside:
            return self.requests
        return [request for place, request in enumerate(self.requests) if place not in self.inside]

    def seal(self) -> None:
        """Write what was gathered into the step."""
        step = self.step
        step.num_tokens = ONE * len(step.rows)
        for place, count in self.counts.items():
            step.num_tokens[place] = count
        if self.drafts:
            step.drafts = Drafts.of(self.drafts)
