"""What core and executor tell each other about a step: only what changed.

The scheduler decides, the executor's worker keeps a mirror (the persistent batch). A request is sent whole once, when it
joins (or joins again after a preemption), with the row of the batch that it has from then on; later steps name rows. Arrays
are of C ints, which numpy reads where they lie.
"""

from __future__ import annotations

from array import array
from collections.abc import Container, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from octavo.wire.logprobs import TokenLogprobs
from octavo.wire.pooling_spec import PoolingSpec
from octavo.wire.sampling_spec import SamplingSpec


def ints(values: tuple[int, ...] | list[int] = ()) -> array[int]:
    """An array of C ints."""
    return array("i", values)


class NewRequest(msgspec.Struct):
    """A request that joins the batch in this step."""

    row: int
    """Of the batch, free: nobody has it, or whoever had it is in this step's `left`."""
    sequence_id: str
    """For messages to people."""
    token_ids: list[int]
    """Prompt, followed by what was generated before a preemption."""
    num_prompt_tokens: int
    num_computed_tokens: int
    """Tokens whose keys and values are already in its blocks (prefix hit). The last of these blocks may be filled by this very
    step, by requests that come earlier in `rows`: each layer writes all keys and values before it attends."""
    block_ids: list[list[int]]
    """Its block table of each cache group: this step's blocks, and where everything is kept as a rule those of all its tokens.
    Where a window has moved on, the columns it no longer sees are 0."""
    sampling: SamplingSpec | None
    """How its tokens are sampled; None = it is pooled instead."""
    pooling: PoolingSpec | None = None
    num_encoder_tokens: int = 0
    """Length of the encoder's output that it attends to, in the blocks of the cross-attention groups."""
    inputs: dict[str, npt.NDArray[Any]] = {}
    """What the model reads beside tokens, by name: see `Model.row_inputs`."""


class Drafts(msgspec.Struct):
    """Proposed tokens that a step verifies: of each row some, to stand behind its known tokens.

    A row with k drafts computes k more tokens in the step. Those of its drafts are accepted which it would have sampled itself,
    up to the first that it would not; then one more is sampled.
    """

    rows: array[int]
    counts: array[int]
    token_ids: array[int]
    """All rows' drafts, one row's after the other's."""

    def by_row(self) -> dict[int, array[int]]:
        """Drafts of each row."""
        starts = accumulate(self.counts, initial=0)
        return {row: self.token_ids[at : at + count] for row, count, at in zip(self.rows, self.counts, starts, strict=False)}

    def without(self, rows: Container[int]) -> Drafts | None:
        """Those of other rows; None if there are none."""
        left = {row: drafts for row, drafts in self.by_row().items() if row not in rows}
        return Drafts.of(left) if left else None

    @classmethod
    def of(cls, drafts: Mapping[int, Sequence[int]]) -> Drafts:
        """Of each row its drafts."""
        lengths = [len(some) for some in drafts.values()]
        return cls(ints(list(drafts)), ints(lengths), ints(list(chain.from_iterable(drafts.values()))))


class Masks(msgspec.Struct):
    """Which tokens rows may sample."""

    rows: array[int]
    """None of them has drafts in the step."""
    bits: npt.NDArray[np.int32]
    """int32 [rows, ceil(V / 32)]: bit i % 32 of word i // 32 allows token i."""


class BlockCopies(msgspec.Struct):
    """Blocks to copy before the step computes anything, for all layers of their group."""

    groups: array[int]
    sources: array[int]
    destinations: array[int]


class EncoderItem(msgspec.Struct):
    """What an encoder reads for one row, before the step's tokens are computed; the row is in the batch."""

    row: int
    inputs: dict[str, npt.NDArray[np.float32]]
    """As the model's `encode` takes them, by name."""


class StepInput(msgspec.Struct):
    """One step's work.

    The worker applies it in this order: `left`, then `joined`, then `new_blocks`, `copies` and `encode`, then it computes.
    """

    step_id: int
    left: array[int]
    """Rows to drop from the batch: requests that finished, were aborted or preempted. Their blocks may already belong to others.
    After a failed step it may name rows of requests that never made it into the batch."""
    joined: list[NewRequest]
    rows: array[int]
    """Rows that compute, in batch order."""
    num_tokens: array[int]
    """Of each of `rows`, tokens to compute (>= 1), drafts not counted. A request that then has no known token left uncomputed
    samples one more, or is pooled. Its tokens may include the one sampled in the step before, which only the worker knows yet."""
    total_num_tokens: int
    """Sum of num_tokens, and of the numbers of drafts."""
    grown: array[int]
    """Rows that were in the batch already and get blocks."""
    new_blocks: list[list[list[int]]]
    """Of each of `grown` the blocks to append to its table of each cache group."""
    drafts: Drafts | None = None
    masks: Masks | None = None
    copies: BlockCopies | None = None
    encode: list[EncoderItem] = []

    @classmethod
    def empty(cls, step_id: int) -> StepInput:
        """A step in which nothing happens yet."""
        return cls(step_id, ints(), [], ints(), ints(), 0, ints(), [])


class StepOutput(msgspec.Struct):
    """What a step computed."""

    step_id: int
    rows: array[int]
    """Rows that sampled, in the step's order. Requests still inside their prompt, pooled ones and failed ones are absent."""
    token_ids: array[int]
    """One new token of each, or as many as `counts` says, row after row."""
    counts: array[int] | None = None
    """Where drafts were verified: new tokens of each row."""
    logprobs: dict[int, TokenLogprobs] = {}
    """By row; only those that asked."""
    prompt_logprobs: dict[int, TokenLogprobs] = {}
    """By row, for the prompt tokens computed in this step: line t scores prompt token `num_computed + 1 + t`
    (the first prompt token has no score). Only rows that asked."""
    pooled: dict[int, npt.NDArray[np.float32]] = {}
    """By row, what pooling gave: [H], or [tokens, H] where every token has its own."""
    errors: dict[int, str] = {}
    """By row: requests that failed by themselves (non-finite logits, say); they are not in `rows`."""

    def tokens_of(self) -> dict[int, list[int]]:
        """New tokens by row."""
        if self.counts is None:
            return {row: [token] for row, token in zip(self.rows, self.token_ids, strict=True)}
        tokens = iter(self.token_ids)
        return {row: [next(tokens) for _ in range(count)] for row, count in zip(self.rows, self.counts, strict=True)}
