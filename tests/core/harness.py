"""A core without process or sockets: messages in, messages out, one step at a time."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass, field

from core_configs import FULL
from fake_executor import FakeExecutor, expected_tokens

from octavo.cache_groups import CacheGroup
from octavo.config import EngineConfig
from octavo.core.constraint import Constraint
from octavo.core.core_io import Inbox
from octavo.core.drafter import Drafter
from octavo.core.engine_core import EngineCore
from octavo.wire.messages import (
    WIRE_VERSION,
    AbortRequests,
    ControlCall,
    ControlReply,
    CoreMessage,
    CoreOutputs,
    EngineRequest,
    EventKind,
    Failed,
    FinishReason,
    Hello,
    RequestUpdate,
)

CLIENT = b"test client"


@dataclass
class Received:
    """All that a client was told of one request."""

    request: EngineRequest
    tokens: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    stop_reason: int | None = None
    error: str | None = None
    events: list[EventKind] = field(default_factory=list)
    prompt_positions: list[int] = field(default_factory=list)
    logprob_positions: list[int] = field(default_factory=list)
    num_cached_tokens: int = 0
    pooled: list[float] | None = None

    def take(self, update: RequestUpdate) -> None:
        assert self.finish_reason is None, "an update after the last"
        self.tokens += update.new_token_ids
        self.finish_reason, self.stop_reason, self.error = update.finish_reason, update.stop_reason, update.error
        self.events += [event.kind for event in update.events]
        self.num_cached_tokens += update.num_cached_tokens
        if update.pooled is not None:
            self.pooled = update.pooled.tolist()
        if update.prompt_logprobs is not None:
            self.prompt_positions += update.prompt_logprobs.ranks.tolist()
            tokens = [self.request.prompt_token_ids[p] for p in update.prompt_logprobs.ranks.tolist()]
            assert update.prompt_logprobs.token_ids[:, 0].tolist() == tokens
        if update.logprobs is not None:
            self.logprob_positions += update.logprobs.ranks.tolist()
            assert update.logprobs.token_ids[:, 0].tolist() == update.new_token_ids

    @property
    def num_preemptions(self) -> int:
        return self.events.count(EventKind.PREEMPTED)


class Harness:
    """One core on a fake executor, one client."""

    def __init__(
        self,
        config: EngineConfig,
        max_in_flight: int | None = None,
        groups: tuple[CacheGroup, ...] = FULL,
        drafter: Drafter | None = None,
        constrain: Callable[[EngineRequest], Constraint | None] | None = None,
    ) -> None:
        self.config = config
        self.executor = FakeExecutor(config, groups=groups)
        self.inbox: Inbox = queue.SimpleQueue()
        self.core = EngineCore(config, self.executor, self.inbox, self._receive, drafter, constrain)
        self.core.max_in_flight = max_in_flight or self.core.max_in_flight
        self.received: dict[str, Received] = {}
        self.aborted: set[str] = set()
        self.outputs: list[CoreOutputs] = []
        self.replies: list[ControlReply] = []
        self.told_lost: list[tuple[bytes, str]] = []
        self.inbox.put((CLIENT, Hello(WIRE_VERSION)))

    def add(self, request: EngineRequest) -> Received:
        copy = EngineRequest(**{name: getattr(request, name) for name in request.__struct_fields__})
        copy.prompt_token_ids = list(request.prompt_token_ids)
        self.received[request.request_id] = received = Received(copy)
        self.inbox.put((CLIENT, request))
        return received

    def abort(self, *request_ids: str) -> None:
        self.inbox.put((CLIENT, AbortRequests(list(request_ids))))
        self.core.take_messages(wait=False)
        self.aborted.update(request_ids)

    def call(self, method: str, *args: object) -> ControlReply:
        self.inbox.put((CLIENT, ControlCall(len(self.replies), method, list(args))))
        self.core.take_messages(wait=False)
        return self.replies[-1]

    def step(self) -> None:
        self.core.take_messages(wait=False)
        self.core.step()

    def run(self, max_steps: int = 10_000) -> None:
        """Until the core is idle; then nothing may be held by anyone."""
        for _ in range(max_steps):
            self.step()
            if self.core.idle:
                break
        else:
            raise AssertionError(f"not idle after {max_steps} steps")
        assert not self.executor.ledger.violations
        scheduler = self.core.scheduler
        scheduler.check_integrity()
        assert scheduler.kv.num_free_blocks == scheduler.kv.num_blocks
        assert scheduler.num_running == scheduler.num_waiting == 0

    def expected(self, request: EngineRequest) -> list[int]:
        """The tokens this request must get when nothing fails."""
        sampling = request.sampling
        limit = min(sampling.max_tokens, self.core.max_model_len - len(request.prompt_token_ids))
        tokens = expected_tokens(request.prompt_token_ids, limit, sampling.seed, self.config.model.vocab_size)
        stops = {*sampling.eos_token_ids, *sampling.stop_token_ids}
        for index, token in enumerate(tokens):
            if token in stops and index + 1 >= sampling.min_tokens:
                return tokens[: index + 1]
        return tokens

    def _receive(self, identity: bytes, message: CoreMessage) -> None:
        if isinstance(message, Failed):
            self.told_lost.append((identity, message.message))
            return
        assert identity == CLIENT
        if isinstance(message, ControlReply):
            self.replies.append(message)
            return
        assert isinstance(message, CoreOutputs)
        self.outputs.append(message)
        for update in message.all_updates():
            assert update.request_id not in self.aborted, "an update after an abort"
            self.received[update.request_id].take(update)
