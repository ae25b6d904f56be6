"""What a caller gets back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Logprob:
    """Log-probability of one token at one position; `rank` 1 is the most likely token."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


LogprobsOnePosition = dict[int, Logprob]
"""Token id -> Logprob; holds the sampled (or prompt) token and the top k."""

SampleLogprobs = Sequence[LogprobsOnePosition]
"""One entry a token: a list, or a `FlatLogprobs`."""
PromptLogprobs = Sequence[LogprobsOnePosition | None]
"""One entry a prompt token; the first is None, for nothing precedes it."""


@dataclass(slots=True)
class CompletionOutput:
    """One of a request's `n` sequences.

    Attributes:
        index: 0..n-1.
        text, token_ids, logprobs: all so far, or what is new, by the request's output kind.
        cumulative_logprob: sum over the sampled tokens, None unless logprobs were asked for.
        finish_reason: None while running, then "stop", "length", "abort", "error" or "repetition".
        stop_reason: the stop string or stop token id that ended it; None for EOS and every other end.
    """

    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None = None
    logprobs: SampleLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    def finished(self) -> bool:
        return self.finish_reason is not None


@dataclass(slots=True)
class RequestMetrics:
    """Times of one request on the monotonic clock, in seconds (0.0 = not reached yet)."""

    arrival_time: float = 0.0
    queued_ts: float = 0.0
    scheduled_ts: float = 0.0
    first_token_ts: float = 0.0
    last_token_ts: float = 0.0
    num_generation_tokens: int = 0
    num_preemptions: int = 0

    @property
    def first_token_latency(self) -> float:
        return max(0.0, self.first_token_ts - self.arrival_time)


@dataclass(slots=True)
class RequestOutput:
    """What one request has produced.

    Attributes:
        prompt: the text, None when only token ids were given.
        num_cached_tokens: prompt tokens found in the prefix cache.
        error: set instead of outputs when the request failed and the caller asked for errors to be returned.
    """

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool
    prompt_logprobs: PromptLogprobs | None = None
    num_cached_tokens: int = 0
    metrics: RequestMetrics | None = None
    error: Exception | None = None
    lora_request: None = field(default=None, repr=False)
