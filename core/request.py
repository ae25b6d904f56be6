"""What the core knows of a request and of the client it came from."""

from __future__ import annotations

import enum

from octavo.core.constraint import Constraint
from octavo.core.kv_cache.hashing import ExtraKey
from octavo.core.repetition import RepetitionWatch
from octavo.core.stats import Counters
from octavo.wire.messages import EngineRequest, Event, EventKind, NewTokens, RequestUpdate
from octavo.wire.sampling_spec import SamplingSpec


class RequestStatus(enum.IntEnum):
    """Where a request is; its progress is in its counts."""

    WAITING = 0
    RUNNING = 1
    FINISHED = 2


class Client:
    """One frontend: its live requests, and the updates gathered for its next message."""

    __slots__ = ("identity", "name", "requests", "saw_busy", "tokens", "told", "told_at", "updates")

    def __init__(self, identity: bytes, told: Counters | None = None) -> None:
        self.identity = identity
        self.name = identity.hex()
        self.requests: dict[str, Request] = {}
        self.updates: list[RequestUpdate] = []
        self.tokens = NewTokens([], [])
        self.told = told or Counters()
        """The totals as of its last message."""
        self.told_at = 0.0
        self.saw_busy = False
        """Whether its last message left it with the impression that there is work."""

    @property
    def has_news(self) -> bool:
        return bool(self.updates or self.tokens.token_ids)

    def take_news(self) -> tuple[list[RequestUpdate], NewTokens]:
        updates, tokens = self.updates, self.tokens
        self.updates, self.tokens = [], NewTokens([], [])
        return updates, tokens


class Request:
    """One sequence being generated.

    `token_ids` are the tokens known to the core. `num_expected` also counts those that steps in flight are sampling;
    `num_computed` counts those whose keys and values are computed by steps handed to the executor. Scheduling is
    `num_computed` catching up with `num_expected`.
    """

    __slots__ = (
        "arrival_time", "block_hashes", "block_ids", "cache_keys", "cache_salt", "client", "constraint", "drafts", "events",
        "first_held", "hash_generation", "inputs", "max_total", "num_cached_tokens", "num_computed", "num_encoded", "num_encoder_tokens",
        "num_expected", "num_held", "num_preemptions", "num_prompt_logprobs", "num_prompt_tokens", "num_published", "num_slots",
        "order", "pooling", "repetition", "request_id", "row", "sampling", "sequence_id", "status", "stop_ids", "token_ids",
    )  # fmt: skip

    def __init__(self, message: EngineRequest, client: Client, sequence: int, max_model_len: int, by_priority: bool) -> None:
        sampling = message.sampling
        # who and what
        self.request_id = message.request_id
        self.sequence_id = f"{message.request_id}#{sequence}"
        """Unique over all clients and for ever."""
        self.row = -1
        """Of the executor's batch, while it runs."""
        self.client = client
        self.sampling = sampling
        self.pooling = message.pooling
        """Set: its hidden states are pooled, and it samples nothing."""
        self.inputs = message.inputs
        """What the model reads beside tokens."""
        self.cache_salt = message.cache_salt
        self.cache_keys: tuple[ExtraKey, ...] = ()
        """What its keys and values depend on besides tokens and salt: an adapter, what an encoder reads."""
        self.arrival_time = message.arrival_time
        self.order = (message.priority if by_priority else 0, sequence)
        """Smaller goes first, and is preempted last."""
        # tokens
        self.num_prompt_tokens = len(message.prompt_token_ids)
        self.token_ids = message.prompt_token_ids + message.output_token_ids
        self.num_expected = len(self.token_ids)
        self.num_computed = 0
        self.max_total = min(self.num_prompt_tokens + sampling.max_tokens, max_model_len)
        """Length at which it ends; the last token of all needs no computing. One that is pooled never gets there."""
        if self.pooling is not None:
            self.max_total = self.num_prompt_tokens + 1
        self.drafts: list[int] = []
        """Proposed tokens that a step in flight verifies: until it is processed nobody knows how many tokens there are."""
        self.stop_ids = frozenset(sampling.eos_token_ids + sampling.stop_token_ids)
        self.repetition = _repetition_watch(sampling, self.max_total - self.num_prompt_tokens)
        self.constraint: Constraint | None = None
        """What it may sample next. Set: it is in no step while one in flight samples for it, for the mask is not known."""
        self.num_encoder_tokens = 0
        """Length of its encoder's output, for models whose decoder attends to one."""
        self.num_encoded = 0
        """How much of that is in its blocks, by steps handed to the executor: all or nothing."""
        # KV blocks, filled by KVCacheManager
        self.block_ids: list[list[int]] = []
        """A block table for each cache group."""
        self.first_held: list[int] = []
        """In each group the first column of the table that it holds; those before have left the window and are 0."""
        self.num_held = 0
        """Blocks that it holds in all groups."""
        self.num_slots = 0
        """Tokens that can be computed before the tables must grow, or windows had better give back blocks."""
        self.block_hashes: list[bytes] = []
        self.hash_generation: int | None = None
        self.num_published = 0
        # progress
        self.status = RequestStatus.WAITING
        self.num_preemptions = 0
        self.num_cached_tokens = 0
        """Prefix hit of the first admission, until it is told."""
        self.num_prompt_logprobs = message.num_prompt_logprobs
        """Prompt positions scored and sent, from position 1 on."""
        self.events: list[Event] = []

    @property
    def num_pending(self) -> int:
        """Tokens that steps in flight are sampling."""
        return self.num_expected - len(self.token_ids)

    @property
    def plain(self) -> bool:
        """Whether its next tokens depend on nothing but its tokens, its seed and what it is drawn with: drafts can be verified."""
        if self.constraint is not None:
            return False
        s = self.sampling
        changed = s.presence_penalty or s.frequency_penalty or s.repetition_penalty != 1.0 or s.min_tokens or s.logit_bias
        limited = s.allowed_token_ids is not None or s.bad_token_sequences
        return not (changed or limited or s.logprobs is not None or s.logprob_token_ids is not None)

    @property
    def num_output_tokens(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def max_prefix_hit(self) -> int:
        """Tokens that may come from the prefix cache.

        The last one is always computed, for its logits, and so are prompt tokens whose log-probabilities are still owed;
        all are where more of them than the last is pooled.
        """
        pools_many = self.pooling is not None and not self.pooling.pools_last_only
        if self.sampling.skip_reading_prefix_cache or pools_many or self.inputs:
            return 0
        owed_from = self.num_prompt_logprobs
        if self.sampling.prompt_logprobs is not None and owed_from < self.num_prompt_tokens - 1:
            return owed_from
        return len(self.token_ids) - 1

    def note(self, kind: EventKind, timestamp: float) -> None:
        """Add an event to the next update."""
        self.events.append(Event(kind, timestamp))


def _repetition_watch(sampling: SamplingSpec, most: int) -> RepetitionWatch | None:
    detection = sampling.repetition_detection
    return RepetitionWatch(detection, most) if detection is not None and detection.max_pattern_size > 0 else None
