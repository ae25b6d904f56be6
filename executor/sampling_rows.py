"""Sampling parameters as one array each, by row of the batch; written when a request joins, read by whole steps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from octavo.executor.rng import uniforms
from octavo.params import SamplingSpec


class SamplingRows:
    """Parameters by row; N = max_num_seqs.

    Attributes:
        temperature, top_p, min_p: float32 [N]. top_k: int32 [N]. seed: uint64 [N].
        num_logprobs: int32 [N], -1 = none asked.
        logprob_ids: row -> ids to score instead of the top ones.
        random: rows that are not greedy.
        scored: rows that ask for logprobs of sampled tokens.
    """

    def __init__(self, max_num_seqs: int) -> None:
        self.temperature = np.zeros(max_num_seqs, np.float32)
        self.top_p = np.ones(max_num_seqs, np.float32)
        self.min_p = np.zeros(max_num_seqs, np.float32)
        self.top_k = np.zeros(max_num_seqs, np.int32)
        self.seed = np.zeros(max_num_seqs, np.uint64)
        self.num_logprobs = np.full(max_num_seqs, -1, np.int32)
        self.logprob_ids: dict[int, npt.NDArray[np.int64]] = {}
        self.random: set[int] = set()
        self.scored: set[int] = set()

    def add(self, row: int, spec: SamplingSpec) -> None:
        """Write the row of a request that joined."""
        self.temperature[row] = spec.temperature
        self.top_p[row] = spec.top_p
        self.min_p[row] = spec.min_p
        self.top_k[row] = spec.top_k
        self.seed[row] = spec.seed
        self.num_logprobs[row] = -1 if spec.logprobs is None else spec.logprobs
        if not spec.greedy:
            self.random.add(row)
        if spec.logprobs is not None or spec.logprob_token_ids is not None:
            self.scored.add(row)
        if spec.logprob_token_ids is not None:
            self.logprob_ids[row] = np.asarray(spec.logprob_token_ids, np.int64)
            self.num_logprobs[row] = -1

    def remove(self, row: int) -> None:
        """The request in `row` left."""
        self.temperature[row] = 0.0
        self.num_logprobs[row] = -1
        self.random.discard(row)
        self.scored.discard(row)
        self.logprob_ids.pop(row, None)

    def uniforms(self, rows: npt.NDArray[np.int64], positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The random numbers that pick output token `positions[i]` of the request in `rows[i]`."""
        return uniforms(self.seed[rows], positions)
