"""When a sequence ends: EOS, stop token ids, a grammar's end, length, repetition - in this order."""

from __future__ import annotations

from typing import NamedTuple

from octavo.core.request import Request
from octavo.wire.messages import FinishReason


class Stop(NamedTuple):
    """Why a sequence ended, and how many of the step's tokens belong to it."""

    reason: FinishReason
    stop_reason: int | None
    num_kept: int


def check_stop(request: Request, num_new: int) -> Stop | None:
    """Look at the `num_new` tokens just appended to `request.token_ids`, first to last."""
    length = len(request.token_ids)
    for end in range(length - num_new + 1, length + 1):
        stop = _check_token(request, end)
        if stop is not None:
            return Stop(*stop, num_kept=num_new - (length - end))
    return None


def _check_token(request: Request, end: int) -> tuple[FinishReason, int | None] | None:
    sampling, token = request.sampling, request.token_ids[end - 1]
    repetition = request.repetition
    repeats = repetition is not None and repetition.catch_up(request.token_ids, request.num_prompt_tokens, end)
    enough = end - request.num_prompt_tokens >= sampling.min_tokens
    if enough and token in request.stop_ids:
        if token in sampling.eos_token_ids:
            return FinishReason.STOP, None
        return FinishReason.STOP, token
    if request.constraint is not None and request.constraint.complete:
        return FinishReason.STOP, None
    if end >= request.max_total:
        return FinishReason.LENGTH, None
    if enough and repeats:
        return FinishReason.REPETITION, None
    return None
