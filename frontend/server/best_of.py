"""More sequences made than are answered: `best_of` of completions and of /generate."""

from __future__ import annotations

import math

from octavo.errors import ValidationError
from octavo.outputs import CompletionOutput, RequestOutput


def check_best_of(best_of: int | None, n: int | None, stream: bool) -> int:
    """How many sequences to make a prompt.

    Raises:
        ValidationError: best_of is below n, or streamed.
    """
    n = 1 if n is None else n
    if best_of is None:
        return n
    if n < 1:
        raise ValidationError(f"n must be at least 1, got {n}.", parameter="n", value=n)
    if best_of < n:
        raise ValidationError(f"best_of must be at least n={n}, got {best_of}.", parameter="best_of", value=best_of)
    if stream and best_of > n:
        raise ValidationError("best_of cannot be streamed.", parameter="best_of", value=best_of)
    return best_of


def best_completions(output: RequestOutput, n: int) -> list[CompletionOutput]:
    """The `n` sequences with the highest cumulative log-probability, best first; all, in order, when there are no more."""
    if len(output.outputs) <= n:
        return output.outputs
    return sorted(output.outputs, key=_likelihood, reverse=True)[:n]


def _likelihood(completion: CompletionOutput) -> float:
    return -math.inf if completion.cumulative_logprob is None else completion.cumulative_logprob
