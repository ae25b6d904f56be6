"""What a caller gets back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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

    # What vLLM's outputs hold beside these, and this version does not make. No fields: one of these objects is made a token.
    routed_experts = None
    lora_request = None
    sampling_mask = None
    spec_decode_metrics = None
    weight_versions = None

    def extend(self, later: CompletionOutput) -> None:
        """Append what is new of the same sequence: `later` must be a delta."""
        self.text += later.text
        self.token_ids = [*self.token_ids, *later.token_ids]
        if later.logprobs:
            merged = [] if self.logprobs is None else self.logprobs[:]
            merged.extend(later.logprobs)  # type: ignore[attr-defined]
            self.logprobs = merged
        self.cumulative_logprob = later.cumulative_logprob
        self.finish_reason, self.stop_reason = later.finish_reason, later.stop_reason

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

    is_corrupted = False
    """A request whose logits are not finite fails instead."""

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

    # What vLLM's outputs hold beside these, and this version does not make.
    lora_request = None
    encoder_prompt = None
    encoder_prompt_token_ids = None
    prompt_token_id_logprobs = None
    kv_transfer_params = None
    ec_transfer_params = None

    @property
    def num_cache_creation_tokens(self) -> int:
        """Prompt tokens that were not in the prefix cache."""
        return len(self.prompt_token_ids) - self.num_cached_tokens

    def add(self, next_output: RequestOutput, aggregate: bool) -> None:
        """Take in a later output of the same request.

        Args:
            next_output: the later one.
            aggregate: append its sequences' news (deltas); else they replace what is there (everything so far).
        """
        self.finished |= next_output.finished
        self.prompt_logprobs = next_output.prompt_logprobs or self.prompt_logprobs
        self.metrics = next_output.metrics or self.metrics
        places = {completion.index: place for place, completion in enumerate(self.outputs)}
        for later in next_output.outputs:
            place = places.get(later.index)
            if place is None:
                self.outputs.append(later)
            elif aggregate:
                self.outputs[place].extend(later)
            else:
                self.outputs[place] = later
