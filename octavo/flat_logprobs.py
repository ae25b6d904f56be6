"""Logprobs of many positions without an object a token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn, overload

from octavo.outputs import Logprob, LogprobsOnePosition


class FlatLogprobs(Sequence[Any]):
    """Logprobs of many positions in six flat lists; reads like a list of dicts, costs no object a token.

    Position `i` has the entries `start_indices[i]` to `end_indices[i]` (exclusive) of the other lists; none = None. It only
    grows: positions cannot be set or deleted.
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
        entries = (position or {}).values()
        self.append_fast(
            list(position or ()), [e.logprob for e in entries], [e.rank for e in entries], [e.decoded_token for e in entries]
        )

    def append_fast(
        self,
        token_ids: Sequence[int],
        logprobs: Sequence[float],
        ranks: Iterable[int | None],
        decoded_tokens: Iterable[str | None],
    ) -> None:
        """Add one position without making objects for it; ranks and texts may hold more than there are ids."""
        start, count = len(self.token_ids), len(token_ids)
        self.start_indices.append(start)
        self.token_ids += token_ids
        self.logprobs += logprobs
        self.ranks += [rank for rank, _ in zip(ranks, token_ids, strict=False)]
        self.decoded_tokens += [text for text, _ in zip(decoded_tokens, token_ids, strict=False)]
        self.end_indices.append(start + count)

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

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError("FlatLogprobs only grows: positions cannot be set")

    def __delitem__(self, index: Any) -> NoReturn:
        raise TypeError("FlatLogprobs only grows: positions cannot be deleted")

    def __iter__(self) -> Iterator[LogprobsOnePosition | None]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, FlatLogprobs | list):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]
