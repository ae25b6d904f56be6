"""How a step's requests lie over the flat token dimension: from rows of the persistent batch to the model's inputs.

Everything is computed by numpy over whole arrays into buffers allocated once. A step over the same requests as the one
before (steady decode) keeps the gathered rows and block tables and pays only for what moved.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from octavo.executor.attention import AttentionMetadata
from octavo.executor.input_batch import InputBatch
from octavo.executor.step import ints
from octavo.executor.transfer import to_device

_Tokens = tuple[torch.Tensor, torch.Tensor]
"""Ids and positions, int64 [T] each, on the device."""


class StepLayout:
    """The current step's requests, in batch order; R requests, T tokens. All views are valid until the next `arrange`.

    Attributes:
        rows: int64 [R], rows of the batch.
        first: int64 [R], position of each request's first new token.
        stop: int64 [R], one past the position of its last.
        last: bool [R]: the request has no known token left after this step.
        sampling: bool [R]: so it samples one, unless it is pooled.
        all_sample: whether that is so for all.
        same_rows: the requests are those of the step before, in the same order.
        query_starts: int32 [R + 1].
    """

    def __init__(
        self, batch: InputBatch, max_num_batched_tokens: int, device: torch.device, layer_groups: tuple[int, ...]
    ) -> None:
        self._batch = batch
        self._device = device
        self._layer_groups = layer_groups
        max_rows = batch.max_num_seqs
        max_tokens = max(max_num_batched_tokens, max_rows)
        self._version = -1
        self._num_block_columns = 0
        self._counts_are_one = False
        self._place_of_row = np.full(max_rows, -1, np.int64)
        self._token_iota = np.arange(max_tokens + 1, dtype=np.int64)
        self._input_ids = np.zeros(max_tokens, np.int64)
        self._positions = np.zeros(max_tokens, np.int64)
        self._slot_mapping = np.full((len(batch.block_tables), max_tokens), -1, np.int64)
        self._num_slots = np.zeros(max_rows, np.int64)
        self._made: tuple[_Tokens, AttentionMetadata] | None = None
        self._sizes = (-1, -1, -1)
        self._longest_encoder = 0
        self._query_starts = np.zeros(max_rows + 1, np.int32)
        self._seq_lens = np.zeros(max_rows, np.int32)
        self._encoder_lens = np.zeros(max_rows, np.int32)
        self._block_tables = np.zeros_like(batch.block_tables)
        self._given_rows = ints()
        self.rows = self._token_iota[:0]
        self.first = self.stop = self._token_iota[:0]
        self.last = self.sampling = np.zeros(0, bool)
        self.all_sample = False
        self.same_rows = False
        self.query_starts = self._query_starts[:1]

    def arrange(
        self, rows: array[int], num_tokens: array[int], grown: Iterable[int]
    ) -> tuple[torch.Tensor, torch.Tensor, AttentionMetadata]:
        """Lay out `num_tokens` of each of `rows`, without duplicates; `grown` are rows that got blocks in this step.

        Returns:
            input_ids int64 [T], positions int64 [T], and the attention's view of the step, on the device.

        Raises:
            ValueError: nobody has a row, or a request is to compute tokens it does not have, or that its blocks have no room for.
        """
        self._find_rows(rows, grown)
        total = self._spread(num_tokens)
        return self._inputs(total)

    def _find_rows(self, given: array[int], grown: Iterable[int]) -> None:
        batch = self._batch
        self.same_rows = batch.version == self._version and given == self._given_rows
        if self.same_rows:
            self._refresh_blocks(grown)
            return
        empty = next((row for row in given if not batch.names[row]), None)
        if empty is not None:
            raise ValueError(f"row {empty} is to compute, and nobody has it")
        rows = np.frombuffer(given, np.int32).astype(np.int64)
        self._place_of_row.fill(-1)
        self._place_of_row[rows] = self._token_iota[: len(rows)]
        columns = int(batch.num_blocks[:, rows].max(initial=0))
        self._block_tables[:, : len(rows), :columns] = batch.block_tables[:, rows, :columns]
        self._num_slots[: len(rows)] = batch.num_slots(rows)
        self._encoder_lens[: len(rows)] = batch.num_encoder_tokens[rows]
        self._longest_encoder = int(self._encoder_lens[: len(rows)].max(initial=0))
        self.rows, self._given_rows, self._version = rows, given, batch.version
        self._counts_are_one = False

    def _refresh_blocks(self, grown: Iterable[int]) -> None:
        batch = self._batch
        for row in grown:
            place = self._place_of_row[row]
            if place >= 0:
                columns = int(batch.num_blocks[:, row].max(initial=0))
                self._block_tables[:, place, :columns] = batch.block_tables[:, row, :columns]
                self._num_slots[place] = batch.num_slots(row)

    def _spread(self, num_tokens: array[int]) -> int:
        """Query starts, first and stop of each request; returns T."""
        num_rows = len(self.rows)
        self.first = self._batch.num_computed[self.rows]
        self.query_starts = self._query_starts[: num_rows + 1]
        total = sum(num_tokens)
        if total > len(self._positions):
            raise ValueError(f"a step of {total} tokens, more than max_num_batched_tokens {len(self._positions)}")
        if total == num_rows:
            if not self._counts_are_one:
                self.query_starts[:] = self._token_iota[: num_rows + 1]
            self.stop = self.first + 1
        else:
            counts = np.frombuffer(num_tokens, np.int32).astype(np.int64)
            np.cumsum(counts, out=self.query_starts[1:])
            self.stop = self.first + counts
        self._counts_are_one = total == num_rows
        self._check()
        return total

    def _check(self) -> None:
        """A wrong step must not write over other requests' keys and values."""
        known = self._batch.num_tokens[self.rows]
        self.last = self.stop == known
        self.sampling = self.last & ~self._batch.pooled[self.rows] if self._batch.num_pooled else self.last
        self.all_sample = bool(self.sampling.all())
        if not self.all_sample and bool((self.stop > known).any()):
            raise ValueError(f"request {self._name(self.stop > known)} is to compute tokens it does not have")
        num_slots = self._num_slots[: len(self.rows)]
        if bool((self.stop > num_slots).any()):
            raise ValueError(f"request {self._name(self.stop > num_slots)} has too few blocks for its tokens")

    def _name(self, where: npt.NDArray[np.bool_]) -> str:
        """The first request of which something holds."""
        return self._batch.names[self.rows[int(where.argmax())]]

    def _inputs(self, total: int) -> tuple[torch.Tensor, torch.Tensor, AttentionMetadata]:
        num_rows, block_size = len(self.rows), self._batch.block_size
        token_rows, positions = self._token_positions(total)
        self._positions[:total] = positions
        self._input_ids[:total] = self._batch.token_ids[token_rows, positions]
        blocks, offsets = np.divmod(positions, block_size)
        for group in self._batch.growing:
            slots = self._slot_mapping[group, :total]
            np.multiply(self._batch.block_tables[group, token_rows, blocks], block_size, out=slots, dtype=np.int64)
            slots += offsets
        self._seq_lens[:num_rows] = self.stop
        columns = -(-max(int(self.stop.max(initial=0)), self._longest_encoder) // block_size)
        tensors, attention = self._on_device(total, num_rows, columns)
        return *tensors, attention

    def _on_device(self, total: int, num_rows: int, columns: int) -> tuple[_Tokens, AttentionMetadata]:
        """The step's arrays. On a CPU these are views of the buffers, good for every step of the same sizes."""
        sizes = (total, num_rows, columns)
        if self._made is None or sizes != self._sizes or self._device.type != "cpu":
            tokens = to_device(self._input_ids[:total], self._device), to_device(self._positions[:total], self._device)
            attention = AttentionMetadata(
                to_device(self._query_starts[: num_rows + 1], self._device),
                to_device(self._seq_lens[:num_rows], self._device),
                to_device(self._encoder_lens[:num_rows], self._device),
                to_device(self._block_tables[:, :num_rows, :columns], self._device).unbind(),
                to_device(self._slot_mapping[:, :total], self._device).unbind(),
                self._layer_groups,
            )
            self._made, self._sizes = (tokens, attention), sizes
        return self._made

    def _token_positions(self, total: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Row and position of each of the T tokens."""
        if self._counts_are_one:
            return self.rows, self.first
        counts = self.stop - self.first
        shift = self.first - self.query_starts[:-1]
        return np.repeat(self.rows, counts), self._token_iota[:total] + np.repeat(shift, counts)
