"""What the frontend measures of each step, handed to whoever wants to know (log line, Prometheus)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from octavo.outputs import RequestMetrics
from octavo.wire.messages import SchedulerStats


@dataclass(slots=True)
class FinishedRequest:
    """Facts about a request that has ended."""

    finish_reason: str
    num_prompt_tokens: int
    num_cached_tokens: int
    num_generation_tokens: int
    max_tokens: int
    n: int
    metrics: RequestMetrics
    finished_ts: float


@dataclass(slots=True)
class IterationStats:
    """One CoreOutputs message, measured."""

    num_prompt_tokens: int = 0
    """Prompt tokens of requests that got their first token now."""
    num_cached_tokens: int = 0
    num_generation_tokens: int = 0
    time_to_first_token: list[float] = field(default_factory=list)
    """Seconds from arrival, for requests that got their first token now."""
    inter_token_latency: list[float] = field(default_factory=list)
    """Seconds since the token before, for the other new tokens."""
    finished: list[FinishedRequest] = field(default_factory=list)
    core_restarts: int = 0
    """Cores started in the place of a dead one."""


@dataclass(slots=True)
class TokenCounts:
    """Tokens of the engine's requests that somebody's work came to."""

    prompt: int = 0
    generated: int = 0

    def add(self, prompt: int, generated: int) -> None:
        """One request of the engine has ended."""
        self.prompt += prompt
        self.generated += generated


class StatLogger(Protocol):
    """Receives every iteration; must be quick, it runs on the event loop."""

    def record(self, scheduler: SchedulerStats | None, iteration: IterationStats) -> None: ...
