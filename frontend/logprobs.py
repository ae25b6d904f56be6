"""Log-probabilities as callers see them, made from the core's arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple, overload

from octavo.executor.step import TokenLogprobs
from octavo.outputs import Logprob, LogprobsOnePosition

TokenText = Callable[[int], str]


class FlatLogprobs(Sequence[Any]):
    """Logprobs of many positions in six flat lists; reads like a list of dicts, costs no object a token.

    Position `i` has the entries `start_indices[i]` to `end_indices[i]` (exclusive) of the other lists; none = None.
    """

    __slots__ = ("decoded_tokens", "end_indices", "logprobs", "ranks", "start_indices", "token_ids")

    def __init__(self) -> None:
        self.start_indices: list[int] = []
        self.end_indices: list[int] = []
        self.token_ids: list[int] = []
        self.logprobs: list[float] = []
        self.ranks: list[int | None] = []
        self.decoded_tokens: list[str | None] = []

    def append(self, position: LogprobsOnePosition | None) -> None:
        """Add one position."""
        self.start_indices.append(len(self.token_ids))
        for token_id, entry in (position or {}).items():
            self.token_ids.append(token_id)
            self.logprobs.append(entry.logprob)
            self.ranks.append(entry.rank)
            self.decoded_tokens.append(entry.decoded_token)
        self.end_indices.append(len(self.token_ids))

    def extend(self, positions: Iterable[LogprobsOnePosition | None]) -> None:
        """Add several positions."""
        if not isinstance(positions, FlatLogprobs):
            for position in positions:
                self.append(position)
            return
        offset = len(self.token_ids)
        self.start_indices += [start + offset for start in positions.start_indices]
        self.end_indices += [end + offset for end in positions.end_indices]
        self.token_ids += positions.token_ids
        self.logprobs += positions.logprobs
        self.ranks += positions.ranks
        self.decoded_tokens += positions.decoded_tokens

    def append_row(self, row: _Row, token_text: TokenText | None) -> None:
        """Add one position without making objects for it."""
        self.start_indices.append(len(self.token_ids))
        self.token_ids += row.token_ids
        self.logprobs += row.logprobs
        self.ranks += row.ranks
        self.decoded_tokens += map(token_text, row.token_ids) if token_text else [None] * len(row.token_ids)
        self.end_indices.append(len(self.token_ids))

    def __len__(self) -> int:
        return len(self.start_indices)

    @overload
    def __getitem__(self, index: int) -> LogprobsOnePosition | None: ...
    @overload
    def __getitem__(self, index: slice) -> FlatLogprobs: ...
    def __getitem__(self, index: int | slice) -> LogprobsOnePosition | FlatLogprobs | None:
        if isinstance(index, slice):
            part = FlatLogprobs()
            part.extend([self[i] for i in range(*index.indices(len(self)))])
            return part
        start, end = self.start_indices[index], self.end_indices[index]
        if start == end:
            return None
        return {self.token_ids[i]: Logprob(self.logprobs[i], self.ranks[i], self.decoded_tokens[i]) for i in range(start, end)}

    def __iter__(self) -> Iterator[LogprobsOnePosition | None]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, FlatLogprobs | list):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]


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
            target.append_row(row, token_text)
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
