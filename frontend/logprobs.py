"""Log-probabilities as callers see them, made from the core's arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any, overload

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

    def extend(self, positions: Sequence[LogprobsOnePosition | None]) -> None:
        """Add several positions."""
        for position in positions:
            self.append(position)

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


def positions(arrays: TokenLogprobs, token_text: TokenText | None, explicit_ids: bool = False) -> list[LogprobsOnePosition]:
    """One dict a row: the row's own token first, then the others from the most likely down.

    Args:
        arrays: [T, 1 + K] arrays from the core.
        token_text: text of a token id; None leaves `decoded_token` None.
        explicit_ids: columns 1..K are ids the caller named, not the top K: their ranks are unknown.
    """
    rows = zip(arrays.token_ids.tolist(), arrays.logprobs.tolist(), arrays.ranks.tolist(), strict=True)
    return [_position(ids, values, rank, token_text, explicit_ids) for ids, values, rank in rows]


def _position(
    ids: list[int], values: list[float], rank: int, token_text: TokenText | None, explicit_ids: bool
) -> LogprobsOnePosition:
    ranks: Sequence[int] | repeat[None] = repeat(None) if explicit_ids else range(1, len(ids))
    own = ids[0]
    position = {own: Logprob(values[0], rank, token_text(own) if token_text else None)}
    for token_id, value, place in zip(ids[1:], values[1:], ranks, strict=False):
        if token_id != own:
            position[token_id] = Logprob(value, place, token_text(token_id) if token_text else None)
    return position
