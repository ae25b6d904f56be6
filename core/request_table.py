"""Where every live request is: waiting or running; and the ways out."""

from __future__ import annotations

import bisect
import logging
import time
from array import array
from typing import Literal

from octavo.core.kv_cache.manager import KVCacheManager
from octavo.core.request import Request, RequestStatus
from octavo.core.request_queue import make_queue
from octavo.core.stats import Counters
from octavo.executor.step import ints
from octavo.wire.messages import EventKind, FinishReason, RequestUpdate

logger = logging.getLogger(__name__)

PREEMPTION_LOG_INTERVAL = 10.0


class RequestTable:
    """All live requests. The scheduler moves them in, results and clients move them out.

    Attributes:
        live: by sequence id, waiting or running.
        running: by `order`, so that the last one is the one to preempt.
        left: rows the executor must drop with the next step. They are free already: whoever gets one joins behind that.
    """

    def __init__(self, kv: KVCacheManager, counters: Counters, policy: Literal["fcfs", "priority"], max_num_seqs: int) -> None:
        self.kv = kv
        self.counters = counters
        self.live: dict[str, Request] = {}
        self.running: list[Request] = []
        self.waiting = make_queue(policy)
        self.left = ints()
        self._free_rows = list(range(max_num_seqs - 1, -1, -1))
        self._unlogged_preemptions = 0
        self._unlogged_tokens = 0
        self._next_log = 0.0

    def add(self, request: Request) -> None:
        """Take in a request, or, when that fails, leave everything as it was."""
        request.note(EventKind.QUEUED, time.monotonic())
        self.waiting.push(request)
        self.live[request.sequence_id] = request
        request.client.requests[request.request_id] = request

    def start(self, request: Request) -> None:
        """Move the first waiting request, which has its blocks now, to the running ones."""
        self.waiting.pop()
        request.status = RequestStatus.RUNNING
        request.row = self._free_rows.pop()
        if not self.running or request.order > self.running[-1].order:
            self.running.append(request)
        else:
            bisect.insort(self.running, request, key=lambda other: other.order)

    def preempt_last(self) -> Request:
        """Send the last running request back to wait. Tokens that steps in flight sample for it still count."""
        request = self.running.pop()
        self._leave_row(request)
        self._log_preemption(request)
        self.kv.free(request)
        request.num_computed = 0
        request.num_preemptions += 1
        request.status = RequestStatus.WAITING
        request.note(EventKind.PREEMPTED, time.monotonic())
        self.waiting.push_back(request)
        self.counters.num_preemptions += 1
        return request

    def finish(self, request: Request, *, discard: bool = False) -> None:
        """Remove a request; with `discard` nothing it computed may be found again."""
        if request.status is RequestStatus.RUNNING:
            self.running.remove(request)
            self._leave_row(request)
        else:
            self.waiting.remove(request)
        if discard:
            self.kv.discard(request)
        else:
            self.kv.free(request)
        request.status = RequestStatus.FINISHED
        del self.live[request.sequence_id]
        request.client.requests.pop(request.request_id, None)

    def fail(self, request: Request, message: str) -> None:
        """End a request with an error of ours."""
        self.finish(request, discard=True)
        update = RequestUpdate(request.request_id, finish_reason=FinishReason.ERROR, error=message, events=request.events)
        request.client.updates.append(update)

    def take_left(self) -> array[int]:
        left, self.left = self.left, ints()
        return left

    def _leave_row(self, request: Request) -> None:
        self.left.append(request.row)
        self._free_rows.append(request.row)
        request.row = -1

    def _log_preemption(self, request: Request) -> None:
        self._unlogged_preemptions += 1
        self._unlogged_tokens += request.num_computed
        now = time.monotonic()
        if now < self._next_log:
            return
        logger.warning(
            "KV cache full: %d preemptions, %d tokens to compute again (last: request %s, preempted %d times before). "
            "A larger --gpu-memory-utilization or smaller --max-num-seqs avoids this.",
            self._unlogged_preemptions, self._unlogged_tokens, request.request_id, request.num_preemptions,
        )  # fmt: skip
        self._unlogged_preemptions = self._unlogged_tokens = 0
        self._next_log = now + PREEMPTION_LOG_INTERVAL
