"""Repetition, frequency and presence penalties, with token counts kept as tokens come."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from octavo.executor.input_batch import InputBatch
from octavo.executor.logits_filters import Edits, LogitsFilter
from octavo.executor.transfer import to_device
from octavo.wire.sampling_spec import SamplingSpec


class Penalties(LogitsFilter):
    """Makes tokens that were there before less likely.

    Logits of tokens in prompt or output are divided by `repetition_penalty` where positive, else multiplied; then those
    of tokens in the output lose `frequency_penalty` times their count, and `presence_penalty` once.
    """

    def __init__(self, batch: InputBatch) -> None:
        self._batch = batch
        self.rows: dict[int, _Row] = {}

    def add(self, row: int, spec: SamplingSpec) -> None:
        if spec.repetition_penalty != 1.0 or spec.frequency_penalty or spec.presence_penalty:
            prompt = self._batch.token_ids[row, : self._batch.num_prompt[row]]
            self.rows[row] = _Row(spec, prompt, self._batch.output_tokens(row))

    def remove(self, row: int) -> None:
        self.rows.pop(row, None)

    def accept(self, tokens: npt.NDArray[np.int64], index: Mapping[int, int]) -> None:
        """The tokens int64 [S] were sampled for the rows that `index` maps to them."""
        for row, state in self.rows.items():
            if row in index:
                state.seen.count(int(tokens[index[row]]))

    def apply(self, logits: torch.Tensor, index: Mapping[int, int]) -> None:
        edits = Edits(logits)
        states = [state for row, state in self.rows.items() if edits.add(index.get(row), state.seen.ids)]
        if not states:
            return
        where, device = edits.where(), logits.device
        strengths = np.repeat(np.asarray([state.strengths for state in states], np.float32).T, edits.sizes(), axis=1)
        repetition, frequency, presence = to_device(strengths, device)
        counts = to_device(np.concatenate([state.seen.counts for state in states]), device)
        values = logits[where]
        values = torch.where(values > 0, values / repetition, values * repetition)
        logits[where] = values - frequency * counts - presence * (counts > 0)


class _Row:
    """One request's penalties and the tokens they apply to."""

    __slots__ = ("seen", "strengths")

    def __init__(self, spec: SamplingSpec, prompt: npt.NDArray[np.int32], output: npt.NDArray[np.int32]) -> None:
        self.strengths = (spec.repetition_penalty, spec.frequency_penalty, spec.presence_penalty)
        # Only the repetition penalty looks at the prompt.
        self.seen = TokenCounts(prompt if spec.repetition_penalty != 1.0 else prompt[:0], output)


class TokenCounts:
    """Distinct tokens of a sequence and how often each is in its output; O(1) a new token, sized by distinct tokens."""

    def __init__(self, prompt: npt.NDArray[np.int32], output: npt.NDArray[np.int32]) -> None:
        distinct = np.unique(np.concatenate([prompt, output]))
        self._ids = distinct.astype(np.int64)
        self._counts = np.zeros(len(distinct), np.float32)
        self._size = len(distinct)
        self._place = dict(zip(distinct.tolist(), range(self._size), strict=True))
        np.add.at(self._counts, np.searchsorted(distinct, output), 1)

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """Distinct tokens of prompt and output."""
        return self._ids[: self._size]

    @property
    def counts(self) -> npt.NDArray[np.float32]:
        """Occurrences in the output of each of `ids`; 0 = in the prompt only."""
        return self._counts[: self._size]

    def count(self, token: int) -> None:
        """One more `token` in the output."""
        place = self._place.setdefault(token, self._size)
        if place == self._size:
            self._append(token)
        self._counts[place] += 1

    def _append(self, token: int) -> None:
        if self._size == len(self._ids):
            grown = max(16, 2 * self._size)
            self._ids = np.resize(self._ids, grown)
            self._counts = np.resize(self._counts, grown)
        self._ids[self._size] = token
        self._counts[self._size] = 0
        self._size += 1
