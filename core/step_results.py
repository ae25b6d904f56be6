"""From what a step computed to what clients are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from octavo.core.request import Request
from octavo.core.request_table import RequestTable
from octavo.core.stopping import check_stop
from octavo.executor.step import StepOutput
from octavo.wire.logprobs import TokenLogprobs
from octavo.wire.messages import EventKind, RequestUpdate

if TYPE_CHECKING:
    from octavo.core.scheduler import ScheduledStep


class StepResults:
    """Appends sampled tokens to their requests, ends those that are done, and writes the updates."""

    def __init__(self, table: RequestTable) -> None:
        self._table = table

    def process(self, scheduled: ScheduledStep, output: StepOutput) -> None:
        """Results of requests that ended meanwhile are dropped; those of preempted ones are as good as any."""
        live = self._table.live
        self._fail_requests(scheduled, output)
        prompt_logprobs = self._new_prompt_logprobs(scheduled, output) if output.prompt_logprobs else {}
        nothing_scored = not (output.logprobs or prompt_logprobs)
        for key, new_ids in output.sampled.items():
            request = live.get(key)
            if request is None:
                continue
            token_ids = request.token_ids
            token_ids += new_ids
            may_end = (
                new_ids[0] in request.stop_ids
                or len(token_ids) >= request.max_total
                or request.repetition is not None
                or len(new_ids) > 1
            )
            if nothing_scored and not may_end and not request.events:
                tokens = request.client.tokens
                tokens.request_ids.append(request.request_id)
                tokens.token_ids.append(new_ids[0])
                continue
            update = RequestUpdate(request.request_id, new_ids)
            update.logprobs, update.prompt_logprobs = output.logprobs.get(key), prompt_logprobs.pop(key, None)
            request.client.updates.append(update)
            if request.events:
                _tell_events(request, update)
            if may_end:
                self._finish_if_due(request, update)
        for key, rows in prompt_logprobs.items():
            request = live[key]
            request.client.updates.append(RequestUpdate(request.request_id, prompt_logprobs=rows))

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

    def _fail_requests(self, scheduled: ScheduledStep, output: StepOutput) -> None:
        errors = output.errors
        if len(output.sampled) < len(scheduled.sampling):
            missing = [key for key in scheduled.sampling if key not in output.sampled and key not in errors]
            errors = {**dict.fromkeys(missing, "the executor returned no token"), **errors}
        for key, message in errors.items():
            request = self._table.live.get(key)
            if request is not None:
                self._table.fail(request, message)

    def _new_prompt_logprobs(self, scheduled: ScheduledStep, output: StepOutput) -> dict[str, TokenLogprobs]:
        """Rows not sent yet, by key: a request computed again after a preemption scores prompt tokens again."""
        new = {}
        for key, rows in output.prompt_logprobs.items():
            request = self._table.live.get(key)
            if request is None:
                continue
            first = scheduled.prompt_positions[key]
            num_known = request.num_prompt_logprobs + 1 - first
            if num_known < len(rows.ranks):
                new[key] = _rows(rows, slice(num_known, None)) if num_known else rows
                request.num_prompt_logprobs = first - 1 + len(rows.ranks)
        return new


def _rows(logprobs: TokenLogprobs, which: slice) -> TokenLogprobs:
    return TokenLogprobs(logprobs.token_ids[which], logprobs.logprobs[which], logprobs.ranks[which])


def _tell_events(request: Request, update: RequestUpdate) -> None:
    update.events, request.events = request.events, []
    if request.num_cached_tokens and any(event.kind is EventKind.SCHEDULED for event in update.events):
        update.num_cached_tokens, request.num_cached_tokens = request.num_cached_tokens, 0
