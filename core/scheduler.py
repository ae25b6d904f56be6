"""What each step computes.

There is no prefill and no decode phase. Each request has `num_computed` tokens that try to catch up with `num_expected`;
a step gives each request some of one token budget. Chunked prefill, prefix hits, recompute after preemption and
proposed tokens are all this arithmetic. A request whose tokens are all computed by a step samples one more in it.

Steps are scheduled ahead: `schedule` takes the tokens sampled by steps in flight for granted (`num_expected` counts them,
the worker knows them), `process` fills them in. Nothing is scheduled past a request's greatest length; what cannot be
foreseen - EOS, an abort - makes one computed token superfluous, which is dropped. Blocks of a request that ended are free
at once, although a step in flight may still write to them: whoever gets them next computes in a later step.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from octavo.cache_groups import CacheGroup
from octavo.config import EngineConfig
from octavo.core.admission import GrowthReserve
from octavo.core.constraint import masks_of
from octavo.core.drafter import Drafter
from octavo.core.kv_cache.manager import KVCacheManager
from octavo.core.kv_cache.prefix import Prefix
from octavo.core.request import Request, RequestStatus
from octavo.core.request_table import RequestTable
from octavo.core.scheduled_step import ScheduledStep
from octavo.core.stats import Counters
from octavo.core.step_results import StepResults
from octavo.executor.step import NewRequest, StepInput
from octavo.wire.messages import EventKind


class Scheduler:
    """Owns the requests and their KV blocks; one thread uses it. Requests come in through `table`, what steps computed through
    `results`, step after step.

    Args:
        groups: cache groups of the executor's model.
        num_blocks: KV blocks the executor has.
        max_model_len: longest sequence; a request that fits it fits the cache.
        drafter: proposes tokens, if any.
    """

    def __init__(
        self,
        config: EngineConfig,
        groups: Sequence[CacheGroup],
        num_blocks: int,
        max_model_len: int,
        drafter: Drafter | None = None,
    ) -> None:
        limits = config.scheduler
        self._max_num_seqs = limits.max_num_seqs
        self._token_budget = limits.max_num_batched_tokens
        self._chunked = limits.enable_chunked_prefill
        self._threshold = limits.long_prefill_token_threshold or self._token_budget
        self._vocab_size = config.model.vocab_size
        self._next_step_id = 0
        self.counters = Counters()
        self._drafter = drafter
        self.kv = KVCacheManager(
            groups, num_blocks, config.cache.block_size, config.cache.enable_prefix_caching, limits.max_chunk,
            0 if drafter is None else drafter.max_drafts,
        )  # fmt: skip
        self.table = RequestTable(self.kv, self.counters, limits.policy, limits.max_num_seqs)
        self.reserve = GrowthReserve(self.kv, max_model_len)
        self.results = StepResults(self.table)

    @property
    def num_running(self) -> int:
        return len(self.table.running)

    @property
    def num_waiting(self) -> int:
        return len(self.table.waiting)

    @property
    def has_requests(self) -> bool:
        return bool(self.table.live)

    def abort(self, requests: Iterable[Request]) -> None:
        """Forget live requests; no update is made for them."""
        for request in requests:
            self.table.finish(request)

    def schedule(self) -> ScheduledStep | None:
        """The next step, which the caller must now submit.

        None when nothing can be computed before a step in flight is processed (or at all).
        """
        scheduled = ScheduledStep(StepInput.empty(self._next_step_id))
        budget = self._schedule_running(scheduled, self._token_budget)
        if not scheduled.preempted:
            budget = self._schedule_waiting(scheduled, budget)
        step = scheduled.step
        if not step.rows:
            return None
        scheduled.seal()
        self._next_step_id += 1
        if scheduled.constraints:
            step.masks = masks_of(scheduled.constraints, self._vocab_size)
        step.left = self.table.take_left()
        step.total_num_tokens = self._token_budget - budget
        self.counters.num_steps += 1
        self.counters.num_scheduled_tokens = step.total_num_tokens
        self.reserve.after_step(scheduled.preempted)
        return scheduled

    def fail_step(self, failed: ScheduledStep, later: list[ScheduledStep], message: str) -> None:
        """Give up the requests of a step that raised. No step may be in flight any more: `later` are those that were
        submitted after it, whose results are not used; their other requests are computed again.
        """
        for request in failed.requests:
            if request.status is not RequestStatus.FINISHED:
                self.table.fail(request, message)
        for request in self.table.live.values():
            request.num_expected = len(request.token_ids)
            request.drafts = []
        if any(request.status is not RequestStatus.FINISHED for scheduled in later for request in scheduled.requests):
            self.preempt_all()
        self.kv.forget_all()

    def fail_all(self, message: str) -> None:
        """Give up every request and start with clean books. No step may be in flight any more."""
        for request in list(self.table.live.values()):
            self.table.fail(request, message)
        self.kv.forget_all()

    def preempt_all(self) -> None:
        """Send every running request back to wait, without its blocks. No step may be in flight."""
        while self.table.running:
            self.table.preempt_last()

    def check_integrity(self) -> None:
        """Raises: RuntimeError: blocks are leaked or wrongly shared."""
        self.kv.check_integrity(self.table.live.values())

    # ---- running requests ----------------------------------------------------------------------------------------

    def _schedule_running(self, scheduled: ScheduledStep, budget: int) -> int:
        """Give running requests their tokens, first to last; returns the budget left.

        One token is kept for each request further down the list, so a long prompt never stalls those that decode.
        """
        running = self.table.running
        rows, requests = scheduled.step.rows, scheduled.requests
        index = 0
        while index < len(running):
            request = running[index]
            index += 1
            expected, computed = request.num_expected, request.num_computed
            count = expected - computed
            if expected >= request.max_total or count <= 0:
                continue  # nothing more will come, or drafts are in flight, or a result that is pooled
            if self._drafter is not None and request.num_pending and request.plain:
                continue  # what follows tokens that nobody knows yet cannot be guessed
            if request.constraint is not None and request.num_pending:
                continue  # nor can what may follow them
            if count > 1 or computed < request.num_prompt_tokens:
                count = self._chunk(request, count, budget - (len(running) - index))
                if computed + count > request.num_slots and not self._grow(request, computed + count, scheduled):
                    break
                self._compute(request, count, scheduled)
                self.kv.publish(request)
            else:
                if computed >= request.num_slots and not self._grow(request, expected, scheduled):
                    break
                rows.append(request.row)
                requests.append(request)
                request.num_computed = expected
                request.num_expected = expected + 1
                if request.constraint is not None:
                    scheduled.constraints[request.row] = request.constraint
                if self._drafter is not None:
                    count += self._draft(self._drafter, request, scheduled, budget - 1 - (len(running) - index))
            budget -= count
        return budget

    def _chunk(self, request: Request, count: int, limit: int) -> int:
        """How many of `count` uncomputed prompt tokens to compute now.

        A prompt that takes several steps lets short ones in beside it: it leaves room for the next waiting request if that
        needs at most half of what there is.
        """
        limit = min(limit, self._threshold) if self._chunked else limit
        if count <= limit:
            return count
        waiting = self.table.waiting.peek()
        if waiting is None or len(self.table.running) >= self._max_num_seqs or waiting.order[0] > request.order[0]:
            return limit
        needed = len(waiting.token_ids)
        fits = needed <= limit // 2 and self.kv.most_blocks(needed, needed) <= self.kv.num_free_blocks
        return limit - needed if fits else limit

    def _grow(self, request: Request, num_tokens: int, scheduled: ScheduledStep) -> bool:
        """Blocks for `request` up to `num_tokens`, preempting from the end of the list; False when it was preempted itself."""
        while (blocks := self.kv.grow(request, num_tokens)) is None:
            scheduled.preempted = True
            if self.table.preempt_last() is request:
                return False
        scheduled.step.grown.append(request.row)
        scheduled.step.new_blocks.append(blocks)
        return True

    def _draft(self, drafter: Drafter, request: Request, scheduled: ScheduledStep, budget: int) -> int:
        """Have the request, whose next token is in the step, verify proposed ones with it; returns how many.

        Only as far as blocks are free: nobody is preempted for a guess.
        """
        limit = min(budget, drafter.max_drafts, request.max_total - request.num_expected)
        if limit <= 0 or not request.plain:
            return 0
        drafts = drafter.propose(request.token_ids, limit)[:limit]
        end = request.num_computed + len(drafts)
        if drafts and end > request.num_slots:
            blocks = self.kv.grow(request, end)
            if blocks is None:
                return 0
            scheduled.step.grown.append(request.row)
            scheduled.step.new_blocks.append(blocks)
        scheduled.drafts[request.row] = request.drafts = drafts
        request.num_computed = end
        return len(drafts)

    # ---- waiting requests ----------------------------------------------------------------------------------------

    def _schedule_waiting(self, scheduled: ScheduledStep, budget: int) -> int:
        """Start waiting requests in their order, as long as there is room for the next one; returns the budget left."""
        while budget > 0 and len(self.table.running) < self._max_num_seqs:
            request = self.table.waiting.peek()
            if request is None:
                break
            count = self._admit(request, scheduled, budget)
            if count == 0:
                break
            budget -= count
        return budget

    def _admit(self, request: Request, scheduled: ScheduledStep, budget: int) -> int:
        """Start `request` if budget and blocks allow; returns how many of its tokens are computed, 0 when it must wait."""
        if request.num_pending:
            return 0
        prefix = self.kv.find_prefix(request)
        hit = prefix.num_tokens
        count = len(request.token_ids) - hit
        if self._chunked:
            count = min(count, budget, self._threshold)
        if count > budget or not self._has_room(request, prefix):
            return 0
        self.kv.admit(request, prefix, count)
        self.table.start(request)
        self._note_admission(request, hit)
        request.num_computed = hit
        scheduled.step.joined.append(
            NewRequest(
                request.row,
                request.sequence_id,
                list(request.token_ids),
                request.num_prompt_tokens,
                hit,
                [list(table) for table in request.block_ids],
                request.sampling if request.pooling is None else None,
                request.pooling,
                request.num_encoder_tokens,
                request.inputs,
            )
        )
        self._compute(request, count, scheduled)
        self.kv.publish(request)
        return count

    def _has_room(self, request: Request, prefix: Prefix) -> bool:
        free = self.kv.free_after(request, prefix)
        return free >= 0 and free >= self.reserve.blocks(self.table.running, request)

    def _note_admission(self, request: Request, hit: int) -> None:
        request.note(EventKind.SCHEDULED, time.monotonic())
        if request.num_preemptions or request.num_output_tokens or not self.kv.enable_prefix_caching:
            return
        request.num_cached_tokens = hit
        if request.max_prefix_hit:
            self.counters.prefix_queries += request.num_prompt_tokens
            self.counters.prefix_hits += hit

    def _compute(self, request: Request, count: int, scheduled: ScheduledStep) -> None:
        """Put `count` of the request's tokens, whose blocks it has, into the step."""
        place = len(scheduled.requests)
        scheduled.step.rows.append(request.row)
        scheduled.requests.append(request)
        scheduled.counts[place] = count
        if request.sampling.prompt_logprobs is not None:
            scheduled.prompt_positions[request.row] = request.num_computed + 1
        request.num_computed += count
        if request.num_computed != request.num_expected:
            scheduled.inside.add(place)
        elif request.pooling is None:
            request.num_expected += 1
            if request.constraint is not None:
                scheduled.constraints[request.row] = request.constraint
