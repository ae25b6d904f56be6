"""The busy loop: take messages, schedule a step, submit it, process the one before."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from octavo.cache_groups import BlockDemand, CacheGroup
from octavo.config import EngineConfig
from octavo.core.admission import RequestChecker
from octavo.core.constraint import Constraint
from octavo.core.control import CONTROL, RestState
from octavo.core.core_io import Compiled, Disconnected, Inbox, NotSent, Stop
from octavo.core.drafter import Drafter
from octavo.core.grammar_queue import GrammarQueue
from octavo.core.request import Client, Request
from octavo.core.scheduled_step import ScheduledStep
from octavo.core.scheduler import Scheduler
from octavo.core.unreadable import failed_requests
from octavo.errors import ConfigError, ValidationError
from octavo.executor.base import Executor
from octavo.executor.step import StepOutput
from octavo.wire.messages import (
    AbortRequests,
    ClientMessage,
    ControlCall,
    ControlReply,
    CoreMessage,
    CoreOutputs,
    EngineRequest,
    Failed,
    Hello,
    Vocabulary,
)

logger = logging.getLogger(__name__)

MAX_FAILURES = 3
"""Failed steps in a row that end the core."""
STATS_INTERVAL = 0.5
"""Seconds after which a client hears of the scheduler's state although no request of its own has news."""


class FatalError(RuntimeError):
    """The core cannot go on; the message is the root cause."""


def served_model_len(config: EngineConfig, groups: Sequence[CacheGroup], num_blocks: int, draft_margin: int = 0) -> int:
    """The longest sequence this cache can hold, if the user left the choice to us, else what the user said.

    Raises:
        ConfigError: the cache is too small for --max-model-len.
    """
    wanted = config.model.max_model_len
    room = BlockDemand(groups, config.cache.block_size, draft_margin).longest(num_blocks, config.scheduler.max_chunk, wanted)
    if wanted == room:
        return wanted
    if config.model.fit_max_model_len and room > 1:
        logger.warning("the KV cache holds %d tokens: maximum model length lowered from %d to that", room, wanted)
        return room
    raise ConfigError(
        f"--max-model-len {wanted} does not fit the KV cache of {num_blocks} blocks ({room} tokens): lower it, or raise "
        "--gpu-memory-utilization, --kv-cache-memory-bytes or --num-gpu-blocks-override"
    )


class EngineCore:
    """Drives one executor for any number of clients. One thread runs it; the world is behind `inbox` and `send`.

    Args:
        executor: started.
        inbox: (client identity, message) pairs; see `core_io`.
        send: hands a message to the output thread.
        drafter: proposes tokens that steps verify, if any.
        constrain: what a request's output must keep to, if not its grammar.
    """

    def __init__(
        self,
        config: EngineConfig,
        executor: Executor,
        inbox: Inbox,
        send: Callable[[bytes, CoreMessage], None],
        drafter: Drafter | None = None,
        constrain: Callable[[EngineRequest], Constraint | None] | None = None,
    ) -> None:
        # fixed
        margin = 0 if drafter is None else drafter.max_drafts
        self.max_model_len = served_model_len(config, executor.cache_groups, executor.num_blocks, margin)
        self.config = config
        self.executor = executor
        self._inbox = inbox
        self._send = send
        self._grammars = GrammarQueue(config.model.vocab_size, inbox)
        self._constrain = constrain or self._grammars.constraint
        self._by_priority = config.scheduler.policy == "priority"
        self.scheduler = Scheduler(config, executor.cache_groups, executor.num_blocks, self.max_model_len, drafter)
        self._checker = RequestChecker(config.model.vocab_size, self.max_model_len, self.scheduler.kv)
        self.max_in_flight = 2 if config.scheduler.async_scheduling else 1
        """Steps submitted and not processed yet; one more than the executor can work on at a time keeps it busy."""
        # changing
        self._clients: dict[bytes, Client] = {}
        self._in_flight: deque[tuple[ScheduledStep, Future[StepOutput]]] = deque()
        self._next_sequence = 0
        self._failures = 0
        self._stopping = False
        self.rest = RestState()
        self._last_step = time.monotonic()

    def run(self) -> None:
        """Serve until a Stop message comes.

        Raises:
            FatalError: the executor is dead, or step after step fails.
        """
        while not self._stopping:
            self.take_messages(wait=self.idle)
            self.step()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do until a message comes."""
        return not self._in_flight and (self.rest.paused or not self.scheduler.has_requests)

    # ---- steps ----------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Submit one more step, and process the oldest one when enough are in flight or there is nothing to submit."""
        if self.idle:
            return
        scheduled = None if self.rest.paused else self._submit_next()
        if self._in_flight and (scheduled is None or len(self._in_flight) >= self.max_in_flight):
            self._complete_oldest()
        elif scheduled is None and self.scheduler.has_requests and not self.rest.paused:
            self._fail_all("the scheduler found nothing to do for the requests it holds")
        self._flush()

    def settle(self) -> None:
        """Process every step in flight, without scheduling another one."""
        while self._in_flight:
            self._complete_oldest()
        self._flush()

    def _submit_next(self) -> ScheduledStep | None:
        try:
            scheduled = self.scheduler.schedule()
        except Exception as error:  # noqa: BLE001 - logged; every request fails
            self._fail_all(f"scheduling failed: {_described(error)}", error)
            return None
        if scheduled is None:
            return None
        try:
            future = self.executor.submit(scheduled.step)
        except Exception as error:  # noqa: BLE001 - a step that cannot be submitted has failed
            future = Future()
            future.set_exception(error)
        self._in_flight.append((scheduled, future))
        return scheduled

    def _complete_oldest(self) -> None:
        scheduled, future = self._in_flight.popleft()
        try:
            output = future.result()
        except Exception as error:  # noqa: BLE001 - logged; the step's requests fail
            self._step_failed(scheduled, error)
            return
        try:
            self.scheduler.results.process(scheduled, output)
        except Exception as error:  # noqa: BLE001 - logged; every request fails
            self._fail_all(f"processing a step's results failed: {_described(error)}", error)
            return
        self._failures = 0
        self._last_step = time.monotonic()

    def _step_failed(self, failed: ScheduledStep, error: Exception) -> None:
        message = f"step {failed.step.step_id} failed: {_described(error)}"
        logger.error("%s (%d requests)", message, len(failed.step.rows), exc_info=error)
        self.scheduler.fail_step(failed, self._drain(), message)
        self._count_failure(message)

    def _fail_all(self, message: str, error: Exception | None = None) -> None:
        logger.error("%s; all requests fail", message, exc_info=error)
        self._drain()
        self.scheduler.fail_all(message)
        self._count_failure(message)

    def _drain(self) -> list[ScheduledStep]:
        """Wait for the steps in flight, whose results cannot be used any more."""
        drained = []
        while self._in_flight:
            scheduled, future = self._in_flight.popleft()
            error = future.exception()
            if error is not None:
                logger.error("step %d, submitted after a failed one, failed too: %s", scheduled.step.step_id, _described(error))
            drained.append(scheduled)
        return drained

    def _count_failure(self, message: str) -> None:
        self._failures += 1
        self._flush()
        try:
            self.executor.check_health()
        except Exception as error:
            raise FatalError(f"the executor is dead: {_described(error)} (after: {message})") from error
        if self._failures >= MAX_FAILURES:
            raise FatalError(f"{self._failures} steps failed in a row, the last: {message}")

    # ---- messages -------------------------------------------------------------------------------------------------

    def take_messages(self, wait: bool) -> None:
        """Handle what has arrived; with `wait`, sleep until something does."""
        if wait:
            self._tell_idle()
            self._handle(*self._inbox.get())
        while not self._inbox.empty():
            self._handle(*self._inbox.get())

    def _handle(self, identity: bytes, message: ClientMessage | Compiled | Disconnected | NotSent | Stop) -> None:
        client = self._clients.get(identity)
        if isinstance(message, Stop):
            self._stopping = True
        elif isinstance(message, Hello):
            self._clients.setdefault(identity, Client(identity, self.scheduler.counters.snapshot()))
        elif client is None:
            self._tell_lost(identity, message)
        elif isinstance(message, EngineRequest):
            self._add_when_compiled(client, message)
        elif isinstance(message, Compiled):
            self._take_compiled(client, message)
        elif isinstance(message, Vocabulary):
            self._grammars.set_vocabulary(message)
        elif isinstance(message, AbortRequests):
            self._grammars.forget(identity, message.request_ids)
            self.scheduler.abort([client.requests[i] for i in message.request_ids if i in client.requests])
        elif isinstance(message, ControlCall):
            self._send(identity, self._control(message))
        elif isinstance(message, NotSent):
            self._make_up_for(client, message)
        else:
            self._disconnect(client)

    def _tell_lost(self, identity: bytes, message: ClientMessage | Compiled | Disconnected | NotSent) -> None:
        """A client that was given up speaks on, so it lives and waits for requests that have been aborted: it must know."""
        if isinstance(message, EngineRequest | AbortRequests | ControlCall):
            logger.error("client %s, which was lost, sent %s", identity.hex(), type(message).__name__)
            self._send(identity, Failed("the connection to this client was lost, and its requests were aborted"))

    def _add_when_compiled(self, client: Client, message: EngineRequest) -> None:
        if not self._grammars.keeps(client.identity, message):
            self._add(client, message)

    def _take_compiled(self, client: Client, compiled: Compiled) -> None:
        if not self._grammars.wants(client.identity, compiled):
            return
        if compiled.matcher is None:
            self._send(client.identity, failed_requests([compiled.message.request_id], compiled.error))
        else:
            self._add_when_compiled(client, compiled.message)

    def _add(self, client: Client, message: EngineRequest) -> None:
        twin = client.requests.get(message.request_id)
        if twin is not None:
            self.scheduler.abort([twin])
            fault: str | None = f"request id {message.request_id!r} is in use; both requests end"
        else:
            fault = self._queued(client, message)
        if fault is not None:
            logger.warning("refused request %s: %s", message.request_id, fault)
            self._send(client.identity, failed_requests([message.request_id], fault))

    def _queued(self, client: Client, message: EngineRequest) -> str | None:
        """Check and queue a request; why it cannot be, when nothing of it is left here."""
        try:
            fault = self._checker.fault(message)
            if fault is None:
                self.scheduler.table.add(self._request(client, message))
        except Exception as error:
            logger.error("request %s could not be queued", message.request_id, exc_info=error)
            return f"queueing the request failed: {_described(error)}"
        return fault

    def _request(self, client: Client, message: EngineRequest) -> Request:
        """Raises: ValueError: what it has generated so far does not keep to its constraint."""
        request = Request(message, client, self._next_sequence, self.max_model_len, self._by_priority)
        self._next_sequence += 1
        request.constraint = None if self._constrain is None else self._constrain(message)
        if request.constraint is not None and not all(map(request.constraint.accept, message.output_token_ids)):
            raise ValueError("its output so far does not keep to its grammar")
        return request

    def _make_up_for(self, client: Client, lost: NotSent) -> None:
        """Whoever waits for a message that could not be sent hears that instead."""
        message, why = lost.message, f"the engine core could not send its output: {lost.error}"
        if isinstance(message, ControlReply):
            self._send(client.identity, ControlReply(message.call_id, error=why))
        elif isinstance(message, CoreOutputs):
            request_ids = [update.request_id for update in message.all_updates()]
            self.scheduler.abort([client.requests[i] for i in request_ids if i in client.requests])
            self._send(client.identity, failed_requests(request_ids, why))

    def _disconnect(self, client: Client) -> None:
        logger.info("client %s disconnected; %d requests aborted", client.name, len(client.requests))
        self.scheduler.abort(list(client.requests.values()))
        self._grammars.forget(client.identity)
        del self._clients[client.identity]

    def _flush(self) -> None:
        """One message to each client that has news; now and then one to those that have not."""
        now = time.monotonic()
        for client in self._clients.values():
            if client.has_news or now - client.told_at > STATS_INTERVAL:
                self._tell(client, now)

    def _tell_idle(self) -> None:
        """Before sleeping: whoever saw a busy core hears that it is idle."""
        now = time.monotonic()
        for client in self._clients.values():
            if client.saw_busy or (self.rest.paused and self.scheduler.has_requests):
                self._tell(client, now)

    def _tell(self, client: Client, now: float) -> None:
        scheduler = self.scheduler
        num_deferred = scheduler.num_waiting if self.rest.paused else 0
        stats = scheduler.counters.since(
            client.told, scheduler.num_running, scheduler.num_waiting, scheduler.kv.usage, num_deferred
        )
        client.told = scheduler.counters.snapshot()
        client.told_at = now
        client.saw_busy = scheduler.has_requests and not self.rest.paused
        updates, tokens = client.take_news()
        self._send(client.identity, CoreOutputs(updates, now, stats, tokens))

    # ---- control calls --------------------------------------------------------------------------------------------

    def _control(self, call: ControlCall) -> ControlReply:
        method = CONTROL_METHODS.get(call.method)
        if method is None:
            return ControlReply(call.call_id, error=f"unknown method {call.method!r}; known are {', '.join(CONTROL_METHODS)}")
        try:
            return ControlReply(call.call_id, method(self, *call.args))
        except FatalError:
            raise
        except (ValidationError, TypeError) as error:
            return ControlReply(call.call_id, error=str(error), refused=True)
        except Exception as error:
            logger.exception("control call %s failed", call.method)
            return ControlReply(call.call_id, error=_described(error))

    def _ping(self) -> None:
        """Answered between two steps: the loop lives."""

    def _stats(self) -> dict[str, Any]:
        scheduler = self.scheduler
        return {
            "num_running": scheduler.num_running,
            "num_waiting": scheduler.num_waiting,
            "num_blocks": scheduler.kv.num_blocks,
            "num_free_blocks": scheduler.kv.num_free_blocks,
            "num_cached_blocks": scheduler.kv.num_cached_blocks,
            "num_clients": len(self._clients),
            "steps": scheduler.counters.num_steps,
            "num_preemptions": scheduler.counters.num_preemptions,
            "prefix_queries": scheduler.counters.prefix_queries,
            "prefix_hits": scheduler.counters.prefix_hits,
            "last_step_monotonic": self._last_step,
        }

    def _check_integrity(self) -> None:
        self.scheduler.check_integrity()


CONTROL_METHODS: dict[str, Callable[..., Any]] = {
    **CONTROL,
    "ping": EngineCore._ping,
    "stats": EngineCore._stats,
    "check_integrity": EngineCore._check_integrity,
}
"""What a ControlCall may name; called between two steps as method(core, *args)."""


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
