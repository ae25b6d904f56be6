"""From what a step computed to what clients are told."""

from __future__ import annotations

from octavo.core.request import Request, RequestStatus
from octavo.core.request_table import RequestTable
from octavo.core.scheduled_step import ScheduledStep
from octavo.core.stopping import check_stop
from octavo.executor.step import StepOutput
from octavo.wire.logprobs import TokenLogprobs
from octavo.wire.messages import EventKind, FinishReason, RequestUpdate


class StepResults:
    """Appends sampled tokens to their requests, ends those that are done, and writes the updates."""

    def __init__(self, table: RequestTable) -> None:
        self._table = table

    def process(self, scheduled: ScheduledStep, output: StepOutput) -> None:
        """Results of requests that ended meanwhile are dropped; those of preempted ones are as good as any."""
        requests = scheduled.finishing
        if len(output.rows) != len(requests) or output.errors:
            requests = self._take_others(scheduled, output)
        prompt_logprobs = self._new_prompt_logprobs(scheduled, output) if output.prompt_logprobs else {}
        nothing_scored = not (output.logprobs or prompt_logprobs)
        runs = None if output.counts is None else output.tokens_of()
        first_tokens = output.token_ids if runs is None else [run[0] for run in runs.values()]
        for row, request, token in zip(output.rows, requests, first_tokens, strict=True):
            if request.status is RequestStatus.FINISHED:
                continue
            token_ids = request.token_ids
            if runs is None:
                token_ids.append(token)
            else:
                token_ids += runs[row]
            if request.drafts:
                _settle_drafts(request)
            constraint = request.constraint
            if constraint is not None and token not in request.stop_ids and not constraint.accept(token):
                self._fail(request, f"its grammar does not allow token {token}, which it sampled")
                continue
            several = runs is not None and len(runs[row]) > 1
            may_end = (
                several
                or token in request.stop_ids
                or len(token_ids) >= request.max_total
                or request.repetition is not None
                or (constraint is not None and constraint.complete)
            )
            if nothing_scored and not may_end and not request.events:
                news = request.client.tokens
                news.request_ids.append(request.request_id)
                news.token_ids.append(token)
                continue
            update = RequestUpdate(request.request_id, [token] if runs is None else runs[row])
            update.logprobs, update.prompt_logprobs = output.logprobs.get(row), prompt_logprobs.pop(request, None)
            request.client.updates.append(update)
            if request.events:
                _tell_events(request, update)
            if may_end:
                self._finish_if_due(request, update)
        for request, scores in prompt_logprobs.items():
            request.client.updates.append(RequestUpdate(request.request_id, prompt_logprobs=scores))

    def _take_others(self, scheduled: ScheduledStep, output: StepOutput) -> list[Request]:
        """Take in pooled results and errors; returns whom the sampled rows belong to."""
        owners = dict(zip(scheduled.step.rows, scheduled.requests, strict=True))
        for row, pooled in output.pooled.items():
            self._finish_pooled(owners[row], pooled)
        for row, message in output.errors.items():
            self._fail(owners[row], message)
        got = {*output.rows, *output.pooled, *output.errors}
        answered = {id(owners[row]) for row in got}
        for request in scheduled.finishing:
            if id(request) not in answered:
                self._fail(request, "the executor returned nothing for it")
        return [owners[row] for row in output.rows]

    def _finish_pooled(self, request: Request, pooled: object) -> None:
        if request.status is RequestStatus.FINISHED:
            return
        update = RequestUpdate(request.request_id, finish_reason=FinishReason.STOP, pooled=pooled)  # type: ignore[arg-type]
        request.client.updates.append(update)
        if request.events:
            _tell_events(request, update)
        self._table.finish(request)

    def _fail(self, request: Request, message: str) -> None:
        if request.status is not RequestStatus.FINISHED:
            self._table.fail(request, message)

    def _finish_if_due(self, request: Request, update: RequestUpdate) -> None:
        num_new = len(update.new_token_ids)
        stop = check_stop(request, num_new)
        if stop is None:
            return
        if stop.num_kept < num_new:
            del request.token_ids[stop.num_kept - num_new :]
            update.new_token_ids = update.new_token_ids[: stop.num_kept]
            if update.logprobs is not None:
                update.logprobs = _rows(update.logprobs, slice(0, stop.num_kept))
        update.finish_reason, update.stop_reason = stop.reason, stop.stop_reason
        self._table.finish(request)

    def _new_prompt_logprobs(self, scheduled: ScheduledStep, output: StepOutput) -> dict[Request, TokenLogprobs]:
        """Scores not sent yet: a request computed again after a preemption scores prompt tokens again."""
        new = {}
        for row, request in zip(scheduled.step.rows, scheduled.requests, strict=True):
            scores = output.prompt_logprobs.get(row)
            if scores is None or request.status is RequestStatus.FINISHED:
                continue
            first = scheduled.prompt_positions[row]
            num_known = request.num_prompt_logprobs + 1 - first
            if num_known < len(scores.ranks):
                new[request] = _rows(scores, slice(num_known, None)) if num_known else scores
                request.num_prompt_logprobs = first - 1 + len(scores.ranks)
        return new


def _settle_drafts(request: Request) -> None:
    """It is known now how many tokens there are; the last of them is not computed, what followed it is not there."""
    request.drafts = []
    request.num_expected = len(request.token_ids)
    if request.status is RequestStatus.RUNNING:
        request.num_computed = request.num_expected - 1


def _rows(logprobs: TokenLogprobs, which: slice) -> TokenLogprobs:
    return TokenLogprobs(logprobs.token_ids[which], logprobs.logprobs[which], logprobs.ranks[which])


def _tell_events(request: Request, update: RequestUpdate) -> None:
    update.events, request.events = request.events, []
    if request.num_cached_tokens and any(event.kind is EventKind.SCHEDULED for event in update.events):
        update.num_cached_tokens, request.num_cached_tokens = request.num_cached_tokens, 0
