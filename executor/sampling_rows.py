"""Sampling parameters as one array each, by row of the batch; written when a request joins, read by whole steps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from octavo.executor.rng import keys_of
from octavo.wire.sampling_spec import SamplingSpec


class SamplingRows:
    """Parameters by row; N = max_num_seqs.

    Attributes:
        draws: float64 [N, 5]: temperature, top_k, top_p, min_p, as `ops.sample` wants them, and room for its uniform.
        key: uint64 [N], of the request's seed (see `rng`).
        num_logprobs: int32 [N], -1 = none asked.
        logprob_ids: row -> ids to score instead of the top ones.
        random: rows that are not greedy.
        scored: rows that ask for logprobs of sampled tokens.
    """

    def __init__(self, max_num_seqs: int) -> None:
        self.draws = np.zeros((max_num_seqs, 5), np.float64)
        self.key = np.zeros(max_num_seqs, np.uint64)
        self.num_logprobs = np.full(max_num_seqs, -1, np.int32)
        self.logprob_ids: dict[int, npt.NDArray[np.int64]] = {}
        self.random: set[int] = set()
        self.scored: set[int] = set()

    def add(self, row: int, spec: SamplingSpec) -> None:
        """Write the row of a request that joined."""
        self.draws[row] = spec.temperature, spec.top_k, spec.top_p, spec.min_p, 0.0
        self.key[row] = keys_of(np.asarray([spec.seed], np.uint64))[0]
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
        self.draws[row, 0] = 0.0
        self.num_logprobs[row] = -1
        self.random.discard(row)
        self.scored.discard(row)
        self.logprob_ids.pop(row, None)
