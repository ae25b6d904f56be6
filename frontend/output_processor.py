"""From the core's messages to what waiting callers get: the only place that loops over a step's updates."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from octavo.errors import EngineDeadError, RequestFailedError
from octavo.frontend.admission import Admission
from octavo.frontend.live_sequence import LiveSequence
from octavo.frontend.request_state import RequestState
from octavo.frontend.sequence_output import SequenceOutput
from octavo.frontend.stats import FinishedRequest, IterationStats, StatLogger
from octavo.wire.messages import (
    CoreOutputs,
    EngineRequest,
    EventKind,
    FinishReason,
    NewTokens,
    RequestUpdate,
    SchedulerStats,
)

logger = logging.getLogger(__name__)

_REQUESTS_PER_TURN = 64
"""Requests served before other tasks of the event loop get their turn (about 1 ms)."""
_DELIVERY_TURN = 0.01
"""Seconds after which they get it in any case: much may have gathered in a request."""


@dataclass(slots=True)
class FollowUp:
    """What the core must be told because of its outputs."""

    aborts: list[str] = field(default_factory=list)
    due: list[RequestState] = field(default_factory=list)
    """Once for each sequence that ended: the request's next one may be sent."""


class OutputProcessor:
    """Knows every unfinished sequence by its id in the core.

    Attributes:
        idle: set while there is no unfinished request.

    Args:
        admission: told of every sequence that starts, is scheduled, ends.
        stat_loggers: get every iteration's measures.
        max_window: sequences of one request in the core at a time.
    """

    def __init__(self, admission: Admission, stat_loggers: Sequence[StatLogger], max_window: int) -> None:
        self._admission = admission
        self._stat_loggers = list(stat_loggers)
        self._max_window = max_window
        self._entries: dict[str, LiveSequence] = {}
        self._requests: dict[str, RequestState] = {}
        self._by_caller_id: dict[str, list[RequestState]] = {}
        self._changed: deque[RequestState] = deque()
        """Those with news that their consumers have not heard of."""
        self._iteration = IterationStats()
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def request_ids(self) -> list[str]:
        """The callers' ids of unfinished requests."""
        return list(self._by_caller_id)

    @property
    def num_unfinished(self) -> int:
        """Requests (not sequences) that have not ended."""
        return len(self._requests)

    def add(self, state: RequestState) -> list[EngineRequest]:
        """Take on a request. When this fails, or sending what it returns, `withdraw` undoes it.

        Returns:
            The core's requests to send now.
        """
        self.idle.clear()
        self._by_caller_id.setdefault(state.request_id, []).append(state)
        self._requests[state.internal_id] = state
        return [self.start_next(state) for _ in range(min(state.params.n, self._max_window))]

    def start_next(self, state: RequestState) -> EngineRequest:
        """The core's request for the next of the `n` sequences, which counts from now on."""
        index, request = state.fan_out.next()
        entry = LiveSequence(state, state.start_sequence(index), request)
        self._admission.sequence_added(len(state.prompt_token_ids))
        # Nothing can fail from here on: what is counted is known, and is uncounted with the request.
        self._entries[request.request_id] = entry
        state.live_ids.add(request.request_id)
        return request

    def withdraw(self, state: RequestState) -> list[str]:
        """Undo `add`, as if the request had never come; returns ids to abort in the core, for they may have been sent."""
        state.finish_reason = "error"
        return self._remove(state)

    def live(self) -> list[LiveSequence]:
        """Every sequence that has not ended, in the order they were made."""
        return list(self._entries.values())

    def core_died(self) -> None:
        """There is no core; what it had is waiting now."""
        self._record(SchedulerStats(num_running=0, num_waiting=len(self._entries), kv_usage=0.0))

    def core_restarted(self) -> None:
        """There is another one."""
        self._iteration.core_restarts += 1
        self._record(None)

    async def process(self, outputs: CoreOutputs) -> FollowUp:
        """Take in one message of the core's, giving way to other tasks now and then. Consumers hear of it by `deliver`."""
        follow_up = FollowUp()
        for number, update in enumerate(outputs.updates, 1):
            entry = self._entries.get(update.request_id)
            if entry is not None:
                self._apply_safely(entry, update, outputs.timestamp, follow_up)
            if number % _REQUESTS_PER_TURN == 0:
                await asyncio.sleep(0)
        self._add_tokens(outputs.tokens, outputs.timestamp, follow_up)
        self._record(outputs.stats)
        return follow_up

    async def deliver(self) -> None:
        """Tell the consumers of everything processed since the last time, giving way to other tasks now and then."""
        while self._changed:
            turn_ends = time.monotonic() + _DELIVERY_TURN
            for _ in range(min(len(self._changed), _REQUESTS_PER_TURN)):
                self._deliver_next()
                if time.monotonic() > turn_ends:
                    break
            if self._changed:
                await asyncio.sleep(0)

    def abort(self, state: RequestState) -> list[str]:
        """End a request from our side; its consumer gets a last output.

        Returns:
            Ids to abort in the core.
        """
        if state.finished:
            return []
        try:
            state.abort()
        except Exception as error:  # noqa: BLE001 - logged; the request ends as failed
            return self.fail(state, _output_fault(state, error))
        core_ids = self._forget(state)
        self._record(None)
        return core_ids

    def fail(self, state: RequestState, error: Exception) -> list[str]:
        """End a request with an error for its consumer; returns ids to abort in the core."""
        if state.finished:
            return []
        state.collector.fail(error)
        state.finish_reason = "error"
        return self._forget(state)

    def fail_all(self, message: str) -> None:
        """The core is gone: everyone who waits gets an EngineDeadError (each its own, for tracebacks grow)."""
        while self._changed:
            self._deliver_next()
        for state in list(self._requests.values()):
            self.fail(state, EngineDeadError(message))

    def find(self, request_id: str) -> list[RequestState]:
        """Unfinished requests with a caller's id."""
        return list(self._by_caller_id.get(request_id, ()))

    def _deliver_next(self) -> None:
        state = self._changed.popleft()
        state.has_news = False
        state.collector.notify()

    def _add_tokens(self, tokens: NewTokens, timestamp: float, follow_up: FollowUp) -> None:
        entries = self._entries
        for request_id, token_id in zip(tokens.request_ids, tokens.token_ids, strict=False):
            entry = entries.get(request_id)
            if entry is None:
                continue
            state, sequence = entry.state, entry.sequence
            if not sequence.plain:
                self._apply_safely(entry, RequestUpdate(request_id, [token_id]), timestamp, follow_up)
                continue
            try:
                sequence.add_token(token_id)
            except Exception as error:  # noqa: BLE001 - logged; the request fails
                self._fault(state, error, follow_up)
                continue
            self._measure_tokens(state, sequence, 1, timestamp)
            if not state.has_news and state.worth_waking(sequence):
                state.has_news = True
                self._changed.append(state)

    def _apply_safely(self, entry: LiveSequence, update: RequestUpdate, timestamp: float, follow_up: FollowUp) -> None:
        """A fault in one request's output is that request's alone."""
        try:
            self._apply(entry, update, timestamp, follow_up)
        except Exception as error:  # noqa: BLE001 - logged; the request fails
            self._fault(entry.state, error, follow_up)

    def _fault(self, state: RequestState, error: Exception, follow_up: FollowUp) -> None:
        follow_up.aborts += self.fail(state, _output_fault(state, error))

    def _apply(self, entry: LiveSequence, update: RequestUpdate, timestamp: float, follow_up: FollowUp) -> None:
        state, sequence = entry.state, entry.sequence
        if update.events or not sequence.scheduled:
            self._note_progress(state, sequence, update)
        if update.finish_reason is FinishReason.ERROR:
            logger.error("request %s failed in the engine: %s", state.request_id, update.error)
            follow_up.aborts += self.fail(state, RequestFailedError(update.error or "the engine failed on this request"))
            return
        if update.prompt_logprobs is not None:
            state.add_prompt_logprobs(update.prompt_logprobs)
        if update.new_token_ids:
            self._measure_tokens(state, sequence, len(update.new_token_ids), timestamp)
        if update.pooled is not None:
            state.pooled = update.pooled
            self._measure_pooled(state, timestamp)
        stop = sequence.apply(update)
        if stop is not None and update.finish_reason is None:
            follow_up.aborts.append(update.request_id)
        if sequence.finished:
            self._sequence_finished(update.request_id, entry, follow_up)
        if not state.has_news and state.worth_waking(sequence):
            state.has_news = True
            self._changed.append(state)

    def _note_progress(self, state: RequestState, sequence: SequenceOutput, update: RequestUpdate) -> None:
        state.add_events(update)
        if update.num_cached_tokens and sequence.index == 0 and not sequence.scheduled:
            state.num_cached_tokens = update.num_cached_tokens
        if not sequence.scheduled and (update.new_token_ids or any(e.kind is EventKind.SCHEDULED for e in update.events)):
            sequence.scheduled = True
            self._admission.sequence_scheduled(len(state.prompt_token_ids))

    def _measure_tokens(self, state: RequestState, sequence: SequenceOutput, number: int, timestamp: float) -> None:
        iteration, metrics = self._iteration, state.metrics
        iteration.num_generation_tokens += number
        metrics.num_generation_tokens += number
        if not metrics.first_token_ts:
            metrics.first_token_ts = timestamp
            iteration.num_prompt_tokens += len(state.prompt_token_ids)
            iteration.num_cached_tokens += state.num_cached_tokens
            iteration.time_to_first_token.append(timestamp - metrics.arrival_time)
        if sequence.last_token_ts:
            gap = timestamp - sequence.last_token_ts
            iteration.inter_token_latency += [gap] if number == 1 else [gap / number] * number
        sequence.last_token_ts = metrics.last_token_ts = timestamp

    def _measure_pooled(self, state: RequestState, timestamp: float) -> None:
        state.metrics.last_token_ts = timestamp
        self._iteration.num_prompt_tokens += len(state.prompt_token_ids)
        self._iteration.num_cached_tokens += state.num_cached_tokens

    def _sequence_finished(self, core_id: str, entry: LiveSequence, follow_up: FollowUp) -> None:
        state, sequence = entry.state, entry.sequence
        del self._entries[core_id]
        state.live_ids.discard(core_id)
        self._admission.sequence_left(sequence.scheduled, len(state.prompt_token_ids))
        state.sequence_finished(sequence)
        if state.finished:
            self._forget(state)
        else:
            follow_up.due.append(state)

    def _forget(self, state: RequestState) -> list[str]:
        """Drop and measure a request that has ended; returns the ids the core may still be working on."""
        if state.internal_id not in self._requests:
            return []
        live = self._remove(state)
        self._admission.request_left()
        self._measure_finished(state)
        return live

    def _remove(self, state: RequestState) -> list[str]:
        """Drop a request and uncount its sequences."""
        if self._requests.pop(state.internal_id, None) is None:
            return []
        if not self._requests:
            self.idle.set()
        same_id = self._by_caller_id[state.request_id]
        same_id.remove(state)
        if not same_id:
            del self._by_caller_id[state.request_id]
        live = list(state.live_ids)
        for core_id in live:
            entry = self._entries.pop(core_id)
            self._admission.sequence_left(entry.sequence.scheduled, len(state.prompt_token_ids))
        state.live_ids.clear()
        return live

    def _measure_finished(self, state: RequestState) -> None:
        self._iteration.finished.append(
            FinishedRequest(
                finish_reason=state.finish_reason or "abort",
                num_prompt_tokens=len(state.prompt_token_ids),
                num_cached_tokens=state.num_cached_tokens,
                num_generation_tokens=state.metrics.num_generation_tokens,
                max_tokens=state.fan_out.processed.spec.max_tokens,
                n=state.params.n,
                metrics=state.metrics,
                finished_ts=time.monotonic(),
            )
        )

    def _record(self, scheduler: SchedulerStats | None) -> None:
        iteration, self._iteration = self._iteration, IterationStats()
        for stat_logger in list(self._stat_loggers):
            try:
                stat_logger.record(scheduler, iteration)
            except Exception:
                logger.exception("a stat logger failed and gets no more measures: %r", stat_logger)
                self._stat_loggers.remove(stat_logger)


def _output_fault(state: RequestState, error: Exception) -> RequestFailedError:
    """What a request whose output could not be made is told."""
    logger.error("request %s: processing its output failed", state.request_id, exc_info=error)
    return RequestFailedError(f"processing the output failed: {error}")
