"""Proposed tokens verified in one step: accepted as far as the request would have sampled them itself.

A row's drafts are laid behind its known tokens and computed with them. Then a token is sampled at each of these positions, with the
random number that belongs to it; a draft is right when it is that token. What follows the first wrong one has been computed from a
token that is not there, and is taken back. So a request's tokens are those it has without drafts (for greedy and for seeded
sampling), and drafts decide only how many come at a time.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from octavo.executor.input_batch import InputBatch
from octavo.executor.sampler import Sampled
from octavo.executor.step import StepInput, ints

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SampledPlaces:
    """Where tokens are sampled, S of them in all.

    Attributes:
        places: int64 [S], in the flat token dimension.
        rows: int64 [S], rows of the batch; one that has drafts comes several times.
        offsets: int64 [S], how many of the row's tokens are sampled before it in this step.
        counts: of each row that samples, in order, how many of S it has.
    """

    places: Places
    rows: Places
    offsets: Places
    counts: list[int]


class DraftedStep:
    """The drafts of one step, written into the batch until they are verified.

    Attributes:
        counts: of each of the step's rows, tokens to compute, drafts included.

    Raises:
        ValueError: a row has both drafts and a mask, which says what may come next and not what may come after a draft.
    """

    def __init__(self, step: StepInput, batch: InputBatch) -> None:
        self._batch = batch
        self._drafts = {} if step.drafts is None else step.drafts.by_row()
        masked = next((row for row in step.masks.rows if row in self._drafts), None) if step.masks is not None else None
        if masked is not None:
            raise ValueError(f"request {batch.names[masked]} has drafts and a mask in one step")
        for row, drafts in self._drafts.items():
            known = int(batch.num_tokens[row])
            batch.token_ids[row, known : known + len(drafts)] = drafts
            batch.num_tokens[row] = known + len(drafts)
        extra = [len(self._drafts.get(row, ())) for row in step.rows]
        self.counts = ints([count + more for count, more in zip(step.num_tokens, extra, strict=True)])

    def positions(self, rows: Places, query_starts: npt.NDArray[np.int32], sampling: npt.NDArray[np.bool_]) -> SampledPlaces:
        """Where to sample: at the last token of each row that samples, and at each of those before it that a draft follows."""
        counts = [len(self._drafts.get(row, ())) + 1 for row in rows[sampling].tolist()]
        ends = query_starts[1:][sampling].astype(np.int64)
        offsets = np.concatenate([np.arange(count) for count in counts] or [np.zeros(0, np.int64)])
        places = np.repeat(ends - counts, counts) + offsets
        return SampledPlaces(places, np.repeat(rows[sampling], counts), offsets, counts)

    def accept(self, where: SampledPlaces, sampled: Sampled) -> tuple[array[int], array[int], array[int], dict[int, str]]:
        """Keep what is right, in the batch too.

        Returns:
            Rows, their new tokens row after row, how many each has, and the errors of rows that have none.
        """
        rows, token_ids, counts, errors = ints(), ints(), ints(), {}
        start = 0
        for count in where.counts:
            row = int(where.rows[start])
            new = self._right(row, sampled.tokens[start : start + count].tolist())
            broken = next((sampled.errors[i] for i in range(start, start + len(new)) if i in sampled.errors), None)
            self._take_back(row, [] if broken is not None else new)
            if broken is not None:
                errors[row] = broken
            else:
                rows.append(row)
                token_ids.extend(new)
                counts.append(len(new))
            start += count
        return rows, token_ids, counts, errors

    def _right(self, row: int, sampled: list[int]) -> list[int]:
        """The sampled tokens up to the first that its draft does not foresee, that one included."""
        drafts = self._drafts.get(row, ())
        for number, (draft, token) in enumerate(zip(drafts, sampled, strict=False)):
            if draft != token:
                return sampled[: number + 1]
        return sampled

    def _take_back(self, row: int, new: list[int]) -> None:
        """The row has these new tokens instead of its drafts, the last of them not computed yet."""
        batch = self._batch
        known = int(batch.num_tokens[row]) - len(self._drafts.get(row, ()))
        batch.token_ids[row, known : known + len(new)] = new
        batch.num_tokens[row] = known + len(new)
        batch.num_computed[row] = min(int(batch.num_computed[row]), known + max(0, len(new) - 1))
