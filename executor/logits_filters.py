"""Changes to logits before a token is picked: allowed ids, forbidden words, minimum length, bias.

A filter holds only the rows that use it; a batch without such rows pays one truth test a filter and step. Changes are
gathered over all rows of a step and written with one indexed operation.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import torch

from octavo.executor.input_batch import InputBatch
from octavo.executor.transfer import to_device
from octavo.wire.sampling_spec import SamplingSpec

Ids = npt.NDArray[np.int64]


class LogitsFilter(abc.ABC):
    """One kind of change. `rows` holds what each row of the batch that uses it needs."""

    rows: Mapping[int, object]

    @abc.abstractmethod
    def add(self, row: int, spec: SamplingSpec) -> None:
        """A request joined in `row`, which the batch holds already. Does nothing when the request does not use the filter."""

    @abc.abstractmethod
    def remove(self, row: int) -> None:
        """The request in `row` left; a row that does not use the filter is ignored."""

    @abc.abstractmethod
    def apply(self, logits: torch.Tensor, index: Mapping[int, int]) -> None:
        """Change logits float32 [S, V] in place; `index` maps rows of the batch to rows of logits."""


class AllowedTokens(LogitsFilter):
    """`allowed_token_ids`: every other id is forbidden."""

    def __init__(self) -> None:
        self.rows: dict[int, Ids] = {}

    def add(self, row: int, spec: SamplingSpec) -> None:
        if spec.allowed_token_ids is not None:
            self.rows[row] = _ids(spec.allowed_token_ids)

    def remove(self, row: int) -> None:
        self.rows.pop(row, None)

    def apply(self, logits: torch.Tensor, index: Mapping[int, int]) -> None:
        edits = Edits(logits)
        for row, ids in self.rows.items():
            edits.add(index.get(row), ids)
        edits.keep_only()


class BadWords(LogitsFilter):
    """`bad_token_sequences`: the last id of a sequence is forbidden where the output ends with the others."""

    def __init__(self, batch: InputBatch) -> None:
        self._batch = batch
        self.rows: dict[int, _Sequences] = {}

    def add(self, row: int, spec: SamplingSpec) -> None:
        if spec.bad_token_sequences:
            self.rows[row] = _Sequences(spec.bad_token_sequences)

    def remove(self, row: int) -> None:
        self.rows.pop(row, None)

    def apply(self, logits: torch.Tensor, index: Mapping[int, int]) -> None:
        edits = Edits(logits)
        for row, sequences in self.rows.items():
            if row in index:
                edits.add(index[row], sequences.forbidden_after(self._batch.output_tokens(row)))
        edits.forbid()


class _Sequences:
    """One request's forbidden sequences, found by the token before the last."""

    def __init__(self, sequences: Iterable[tuple[int, ...]]) -> None:
        self._always = _ids(s[0] for s in sequences if len(s) == 1)
        self._after: dict[int, list[tuple[int, ...]]] = {}
        for sequence in sequences:
            if len(sequence) > 1:
                self._after.setdefault(sequence[-2], []).append(sequence)

    def forbidden_after(self, output: npt.NDArray[np.int32]) -> Ids:
        longer = self._after.get(int(output[-1])) if len(output) else None
        if not longer:
            return self._always
        matching = [s[-1] for s in longer if len(s) <= len(output) + 1 and output[1 - len(s) :].tolist() == list(s[:-1])]
        return np.concatenate([self._always, _ids(matching)])


class MinTokens(LogitsFilter):
    """`min_tokens`: what ends the output is forbidden until it is that long. A row drops out when it is."""

    def __init__(self, batch: InputBatch) -> None:
        self._batch = batch
        self.rows: dict[int, tuple[int, Ids]] = {}

    def add(self, row: int, spec: SamplingSpec) -> None:
        ends = _ids(dict.fromkeys(spec.eos_token_ids + spec.stop_token_ids))
        if len(ends) and len(self._batch.output_tokens(row)) < spec.min_tokens:
            self.rows[row] = (spec.min_tokens, ends)

    def remove(self, row: int) -> None:
        self.rows.pop(row, None)

    def apply(self, logits: torch.Tensor, index: Mapping[int, int]) -> None:
        edits = Edits(logits)
        for row, (min_tokens, ends) in list(self.rows.items()):
            if len(self._batch.output_tokens(row)) < min_tokens:
                edits.add(index.get(row), ends)
            else:
                del self.rows[row]
        edits.forbid()


class LogitBias(LogitsFilter):
    """`logit_bias`: added to the logits of the ids it names."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[Ids, npt.NDArray[np.float32]]] = {}

    def add(self, row: int, spec: SamplingSpec) -> None:
        if spec.logit_bias:
            bias = np.fromiter(spec.logit_bias.values(), np.float32, len(spec.logit_bias))
            self.rows[row] = (_ids(spec.logit_bias), bias)

    def remove(self, row: int) -> None:
        self.rows.pop(row, None)

    def apply(self, logits: torch.Tensor, index: Mapping[int, int]) -> None:
        edits = Edits(logits)
        biases = [bias for row, (ids, bias) in self.rows.items() if edits.add(index.get(row), ids)]
        if biases:
            where = edits.where()
            logits[where] = logits[where] + to_device(np.concatenate(biases), logits.device)


class Edits:
    """Places (row of logits, token id) to change together."""

    def __init__(self, logits: torch.Tensor) -> None:
        self._logits = logits
        self.indices: list[int] = []
        self._ids: list[Ids] = []

    def add(self, index: int | None, ids: Ids) -> bool:
        """Note `ids` of the row `index`; False when the row is not in this step (None)."""
        if index is None:
            return False
        self.indices.append(index)
        self._ids.append(ids)
        return True

    def sizes(self) -> list[int]:
        return [len(ids) for ids in self._ids]

    def where(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The places, as indices into logits."""
        device = self._logits.device
        rows = np.repeat(np.asarray(self.indices, np.int64), self.sizes())
        return to_device(rows, device), to_device(np.concatenate(self._ids), device)

    def forbid(self) -> None:
        """No token at these places can be picked."""
        if self.indices:
            self._logits[self.where()] = -torch.inf

    def keep_only(self) -> None:
        """In the rows noted, no token but those at these places can be picked."""
        if self.indices:
            where = self.where()
            kept = self._logits[where]
            self._logits[to_device(np.asarray(self.indices, np.int64), self._logits.device)] = -torch.inf
            self._logits[where] = kept


def _ids(ids: Iterable[int]) -> Ids:
    return np.fromiter(ids, np.int64)
