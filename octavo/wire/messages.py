"""Wire types: everything a frontend and a core say to each other. Closed, typed, versioned; no text of users in them.

A message is one msgpack document, tagged by its type, in the first frame; arrays larger than a few hundred bytes travel
behind it as frames of their own (`transport.py`). To change a message: append fields with defaults, never reorder or
reuse; change what exists only together with WIRE_VERSION.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec
import numpy as np

from octavo.wire.logprobs import TokenLogprobs
from octavo.wire.pooling_spec import PoolingSpec
from octavo.wire.sampling_spec import SamplingSpec

WIRE_VERSION = 2


class FinishReason(enum.IntEnum):
    """Why a request ended; `str()` gives the API's word."""

    STOP = 0
    LENGTH = 1
    ABORT = 2
    ERROR = 3
    REPETITION = 4

    def __str__(self) -> str:
        return self.name.lower()


class EventKind(enum.IntEnum):
    """Something that happened to a request in the core."""

    QUEUED = 0
    SCHEDULED = 1
    PREEMPTED = 2


# ---- frontend -> core ------------------------------------------------------------------------------------------------


class Hello(msgspec.Struct, tag="hello", array_like=True):
    """First message of a client on a connection; the core answers with Progress messages and then Ready or Failed."""

    wire_version: int


class EngineRequest(msgspec.Struct, tag="add", array_like=True):
    """One sequence to generate."""

    request_id: str
    """Unique within the client."""
    prompt_token_ids: list[int]
    sampling: SamplingSpec
    arrival_time: float
    """Monotonic clock of the host, seconds."""
    priority: int = 0
    """Lower goes first (policy "priority")."""
    cache_salt: str | None = None
    output_token_ids: list[int] = []
    """What a core that is gone generated of it; this one goes on after them, as after a preemption."""
    num_prompt_logprobs: int = 0
    """Prompt positions, from position 1 on, whose log-probabilities the client has already."""
    pooling: PoolingSpec | None = None
    """Pool its hidden states; nothing is sampled, whatever `sampling` says."""
    inputs: dict[str, np.ndarray] = {}
    """What the model reads beside tokens, by name; its frontend has checked that there is such a thing."""


class AbortRequests(msgspec.Struct, tag="abort", array_like=True):
    """Forget these; no further update is sent for them. Unknown ids are ignored."""

    request_ids: list[str]


class ControlCall(msgspec.Struct, tag="call", array_like=True):
    """A rare operation by name, see `engine_core.CONTROL_METHODS`; answered by ControlReply with the same call_id."""

    call_id: int
    method: str
    args: list[Any] = []


class Vocabulary(msgspec.Struct, tag="vocabulary", array_like=True):
    """What tokens are, for grammars: comes before the first request that has one."""

    tokens: list[bytes]
    """By id; those of a padded vocabulary's end may be missing."""
    special_ids: list[int]
    """Tokens that are no text."""
    eos_id: int


ClientMessage = Hello | Vocabulary | EngineRequest | AbortRequests | ControlCall


# ---- core -> frontend ------------------------------------------------------------------------------------------------


class Progress(msgspec.Struct, tag="progress", array_like=True):
    """The core is starting: which phase, how far (0..1), seconds since its process began."""

    phase: str
    fraction: float
    elapsed: float


class Ready(msgspec.Struct, tag="ready", array_like=True):
    """The core serves; facts the frontend needs."""

    wire_version: int
    pid: int
    num_blocks: int
    block_size: int
    max_model_len: int
    """May be less than configured when --max-model-len auto met a small cache."""
    phases: dict[str, float]
    """Seconds each start-up phase took, in order."""
    device: str = ""
    """Device, kernels and threads, for people to read."""
    num_cache_tokens: int = 0
    """Tokens that the KV cache holds in sequences of max_model_len; 0 for a model without caches."""
    row_inputs: list[str] = []
    """Names of what requests may bring beside tokens."""


class Failed(msgspec.Struct, tag="failed", array_like=True):
    """The core cannot start; the message is for the user and names the flag to change where one would help."""

    message: str


class Event(msgspec.Struct, array_like=True):
    """What happened to a request, and when."""

    kind: EventKind
    timestamp: float
    """Monotonic clock, seconds."""


class RequestUpdate(msgspec.Struct, array_like=True, omit_defaults=True):
    """What a step brought to one request."""

    request_id: str
    new_token_ids: list[int] = []
    finish_reason: FinishReason | None = None
    """Set once; no update follows."""
    stop_reason: int | None = None
    """The stop token id, when one of `stop_token_ids` ended it."""
    logprobs: TokenLogprobs | None = None
    prompt_logprobs: TokenLogprobs | None = None
    """For the next T prompt tokens (the first prompt token has no row); chunks come in order."""
    events: list[Event] = []
    num_cached_tokens: int = 0
    """Prefix hit, told with the first SCHEDULED event."""
    error: str | None = None
    """With FinishReason.ERROR: what went wrong."""
    pooled: np.ndarray | None = None
    """float32 [H], or [tokens, H]: what pooling gave; the request is done."""


class NewTokens(msgspec.Struct, array_like=True):
    """Requests to which a step brought one token and nothing else, column by column: most of them, in most steps."""

    request_ids: list[str] = []
    token_ids: list[int] = []


class SchedulerStats(msgspec.Struct, array_like=True):
    """State and counters after a step; counters are deltas since the message before."""

    num_running: int
    num_waiting: int
    kv_usage: float
    """Share of KV blocks that hold running requests, 0..1."""
    prefix_queries: int = 0
    """Prompt tokens looked up in the prefix cache."""
    prefix_hits: int = 0
    num_preemptions: int = 0
    num_steps: int = 0
    num_scheduled_tokens: int = 0
    """In the last step."""
    num_deferred: int = 0
    """Of those waiting: they wait for something else than room, such as the end of a pause."""


class CoreOutputs(msgspec.Struct, tag="outputs", array_like=True):
    """One step's news for one client; a request is in `updates` or in `tokens`, not in both."""

    updates: list[RequestUpdate]
    timestamp: float
    """Monotonic clock when the tokens were known."""
    stats: SchedulerStats | None = None
    tokens: NewTokens = msgspec.field(default_factory=NewTokens)

    def all_updates(self) -> list[RequestUpdate]:
        """Everything in the one form."""
        columns = zip(self.tokens.request_ids, self.tokens.token_ids, strict=True)
        return [*self.updates, *(RequestUpdate(request_id, [token_id]) for request_id, token_id in columns)]


class ControlReply(msgspec.Struct, tag="reply", array_like=True):
    """Answer to a ControlCall: its value, or what went wrong."""

    call_id: int
    value: Any = None
    error: str | None = None
    refused: bool = False
    """With an error: the call itself is at fault, not the core."""


CoreMessage = Progress | Ready | Failed | CoreOutputs | ControlReply
