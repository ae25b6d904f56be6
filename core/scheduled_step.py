"""A step on its way: what the executor computes, and what its result is matched against."""

from __future__ import annotations

from dataclasses import dataclass, field

from octavo.core.request import Request
from octavo.executor.step import StepInput


@dataclass(slots=True)
class ScheduledStep:
    """A step for the executor, with what its result is matched against."""

    step: StepInput
    requests: list[Request] = field(default_factory=list)
    """Whom the step's rows belong to, in its order: a row may be somebody else's when the result comes."""
    finishing: list[Request] = field(default_factory=list)
    """Those of them that sample in it, or are pooled."""
    prompt_positions: dict[int, int] = field(default_factory=dict)
    """By row the first prompt position scored, for requests that want prompt logprobs."""
    drafts: dict[int, list[int]] = field(default_factory=dict)
    """By row the proposed tokens that it verifies."""
    preempted: bool = False
