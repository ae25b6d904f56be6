"""The persistent batch: the worker's mirror of the requests that the core runs, as preallocated arrays with one row each.

A row is written whole when its request joins and appended to afterwards; nothing here costs time for rows that did not
change. Rows are reused in place. `num_tokens` counts the tokens known so far, sampled ones included; a step computes
tokens `num_computed .. num_computed + n` of a row, and a row that then has no known token left uncomputed gets one sampled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from octavo.cache_groups import CacheGroup
from octavo.executor.step import NewRequest


class InputBatch:
    """Arrays by row; N = max_num_seqs, G = cache groups.

    Attributes:
        token_ids: int32 [N, max_model_len + 1]. The pages of unused columns are never touched.
        num_tokens, num_computed, num_prompt: int64 [N].
        num_encoder_tokens: int64 [N], what each row's cross-attention sees.
        block_tables: int32 [G, N, blocks of max_model_len, or of the longest output of an encoder].
        growing: int64, numbers of the groups that take up each token; the others are of cross-attention.
        num_blocks: int64 [G, N], how many entries of a row's block table are valid.
        pooled: bool [N], rows whose hidden states are pooled, which sample nothing; num_pooled, how many have somebody.
        names: sequence ids by row, "" where nobody is.
        version: changes whenever a request joins or leaves.
    """

    def __init__(self, max_num_seqs: int, max_model_len: int, block_size: int, groups: Sequence[CacheGroup]) -> None:
        self.max_num_seqs = max_num_seqs
        self.max_model_len = max_model_len
        self.block_size = block_size
        longest = max([max_model_len, *(group.spec.max_encoder_tokens for group in groups)])
        max_blocks = -(-longest // block_size)
        self.growing = np.array([number for number, group in enumerate(groups) if group.spec.kind != "cross"], np.int64)
        # np.zeros maps untouched pages. One column more: a token may be sampled ahead for a request that just ended.
        self.token_ids = np.zeros((max_num_seqs, max_model_len + 1), np.int32)
        self.num_tokens = np.zeros(max_num_seqs, np.int64)
        self.num_computed = np.zeros(max_num_seqs, np.int64)
        self.num_prompt = np.zeros(max_num_seqs, np.int64)
        self.num_encoder_tokens = np.zeros(max_num_seqs, np.int64)
        self.block_tables = np.zeros((len(groups), max_num_seqs, max_blocks), np.int32)
        self.num_blocks = np.zeros((len(groups), max_num_seqs), np.int64)
        self.pooled = np.zeros(max_num_seqs, bool)
        self.num_pooled = 0
        self.names = [""] * max_num_seqs
        self.version = 0

    def __len__(self) -> int:
        return sum(map(bool, self.names))

    def add(self, request: NewRequest) -> None:
        """Fill the row that `request` was given.

        Raises:
            ValueError: there is no such row, or somebody has it, or the request is longer than a row. Nothing has changed then.
        """
        self._check(request)
        row = request.row
        self.names[row] = request.sequence_id
        self.version += 1
        self.pooled[row] = request.pooling is not None
        self.num_pooled += int(self.pooled[row])
        num_tokens = len(request.token_ids)
        self.token_ids[row, :num_tokens] = request.token_ids
        self.num_tokens[row] = num_tokens
        self.num_computed[row] = request.num_computed_tokens
        self.num_prompt[row] = request.num_prompt_tokens
        self.num_encoder_tokens[row] = request.num_encoder_tokens
        self.num_blocks[:, row] = 0
        self.append_blocks(row, request.block_ids)

    def remove(self, row: int) -> bool:
        """Free a row; whether somebody had it."""
        if not self.names[row]:
            return False
        self.names[row] = ""
        self.version += 1
        self.num_pooled -= int(self.pooled[row])
        return True

    def accept(self, rows: npt.NDArray[np.int64], tokens: npt.NDArray[np.int64]) -> None:
        """Append a token [rows] to each row: the next step finds it here."""
        known = self.num_tokens[rows]
        self.token_ids[rows, known] = tokens
        self.num_tokens[rows] = known + 1

    def append_blocks(self, row: int, block_ids: Sequence[Sequence[int]]) -> None:
        """Append to the row's block table of each cache group.

        Raises:
            ValueError: more blocks than max_model_len tokens need.
        """
        most = self.block_tables.shape[2]
        for group, blocks in enumerate(block_ids):
            start = int(self.num_blocks[group, row])
            stop = start + len(blocks)
            if stop > most:
                raise ValueError(f"{stop} blocks for a sequence; max_model_len {self.max_model_len} needs {most}")
            self.block_tables[group, row, start:stop] = blocks
            self.num_blocks[group, row] = stop

    def num_slots(self, rows: npt.NDArray[np.int64] | int) -> npt.NDArray[np.int64]:
        """Tokens that the blocks of each row, or of one, have room for, in every growing group."""
        blocks = self.num_blocks[:, rows][self.growing].min(axis=0, initial=self.max_model_len)
        return np.asarray(blocks * self.block_size)

    def output_tokens(self, row: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        """View of the tokens generated so far."""
        return self.token_ids[row, self.num_prompt[row] : self.num_tokens[row]]

    def _check(self, request: NewRequest) -> None:
        if not 0 <= request.row < self.max_num_seqs:
            raise ValueError(f"request {request.sequence_id} joins in row {request.row} of {self.max_num_seqs}")
        if self.names[request.row]:
            raise ValueError(f"request {request.sequence_id} joins in row {request.row}, which {self.names[request.row]} has")
        if len(request.token_ids) > self.max_model_len:
            raise ValueError(
                f"request {request.sequence_id} has {len(request.token_ids)} tokens, more than max_model_len {self.max_model_len}"
            )
        num_groups, _, most = self.block_tables.shape
        if len(request.block_ids) != num_groups:
            raise ValueError(
                f"request {request.sequence_id} has block tables for {len(request.block_ids)} cache groups, not {num_groups}"
            )
        if max(map(len, request.block_ids), default=0) > most:
            raise ValueError(f"request {request.sequence_id} has more blocks than the {most} that max_model_len needs")
