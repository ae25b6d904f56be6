"""Log-probabilities as callers see them, made from the core's arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any, NamedTuple

from octavo.flat_logprobs import FlatLogprobs
from octavo.outputs import Logprob
from octavo.wire.logprobs import TokenLogprobs

TokenText = Callable[[int], str]


def extend_positions(
    target: list[Any] | FlatLogprobs,
    arrays: TokenLogprobs,
    token_text: TokenText | None,
    *,
    explicit_ids: bool = False,
    num_rows: int | None = None,
) -> None:
    """Add a position for each row: the row's own token first, then the others from the most likely down.

    Args:
        target: where to.
        arrays: [T, 1 + K] arrays from the core.
        token_text: text of a token id; None leaves `decoded_token` None.
        explicit_ids: columns 1..K are ids the caller named, not the top K: their ranks are unknown.
        num_rows: only the first of them.
    """
    for row in _rows(arrays, explicit_ids, num_rows):
        if isinstance(target, FlatLogprobs):
            texts = map(token_text, row.token_ids) if token_text else repeat(None)
            target.append_fast(row.token_ids, row.logprobs, row.ranks, texts)
        else:
            texts = map(token_text, row.token_ids) if token_text else repeat(None)
            target.append(dict(zip(row.token_ids, map(Logprob, row.logprobs, row.ranks, texts), strict=True)))


class _Row(NamedTuple):
    """One position, each token once."""

    token_ids: list[int]
    logprobs: list[float]
    ranks: list[int | None]


def _rows(arrays: TokenLogprobs, explicit_ids: bool, num_rows: int | None) -> Iterator[_Row]:
    columns = (arrays.token_ids[:num_rows], arrays.logprobs[:num_rows], arrays.ranks[:num_rows])
    for ids, values, rank in zip(*(column.tolist() for column in columns), strict=True):
        ranks: list[int | None] = [rank, *(repeat(None, len(ids) - 1) if explicit_ids else range(1, len(ids)))]
        if ids[0] in ids[1:]:
            # The sampled token is one of the top: its own entry stays.
            again = ids.index(ids[0], 1)
            del ids[again], values[again], ranks[again]
        yield _Row(ids, values, ranks)
