"""What core and executor tell each other about a step: only what changed.

The scheduler decides, the executor's worker keeps a mirror (the persistent batch). A request is sent whole once, when it
joins (or joins again after a preemption); from then on by id, with its new blocks and the number of tokens to compute.
"""

from __future__ import annotations

import msgspec

from octavo.wire.logprobs import TokenLogprobs
from octavo.wire.sampling_spec import SamplingSpec


class NewRequest(msgspec.Struct):
    """A request that joins the batch in this step."""

    request_id: str
    token_ids: list[int]
    """Prompt, followed by what was generated before a preemption."""
    num_prompt_tokens: int
    num_computed_tokens: int
    """Tokens whose keys and values are already in its blocks (prefix hit). The last of these blocks may be filled by this very
    step, by requests that come earlier in `num_tokens`: each layer writes all keys and values before it attends."""
    block_ids: list[list[int]]
    """Its block table of each cache group: this step's blocks, and where everything is kept as a rule those of all its tokens.
    Where a window has moved on, the columns it no longer sees are 0."""
    sampling: SamplingSpec
    num_encoder_tokens: int = 0
    """Length of the encoder's output that it attends to, in the blocks of the cross-attention groups."""


class StepInput(msgspec.Struct):
    """One step's work.

    The worker applies it in this order: `left`, then `joined`, then `new_blocks`, then it computes `num_tokens`.
    """

    step_id: int
    left: list[str]
    """Requests to drop from the batch: finished, aborted or preempted. Their blocks may already belong to others. After a
    failed step it may name requests that never made it into the batch."""
    joined: list[NewRequest]
    new_blocks: dict[str, list[list[int]]]
    """Blocks appended to the tables of requests that were in the batch already, of each cache group."""
    num_tokens: dict[str, int]
    """request_id -> tokens to compute in this step (>= 1), in batch order. A request that then has no known token left
    uncomputed samples one more. Its tokens may include the one sampled in the step before, which only the worker knows yet."""
    total_num_tokens: int
    """Sum of num_tokens."""


class StepOutput(msgspec.Struct):
    """What a step computed."""

    step_id: int
    sampled: dict[str, list[int]]
    """request_id -> new token ids (one each; several once tokens are speculated). Requests still inside their prompt are absent."""
    logprobs: dict[str, TokenLogprobs]
    """Only requests that asked."""
    prompt_logprobs: dict[str, TokenLogprobs]
    """For the prompt tokens computed in this step: row t of a request scores prompt token `num_computed + 1 + t`
    (the first prompt token has no score). Only requests that asked."""
    errors: dict[str, str]
    """Requests that failed by themselves (non-finite logits, say); they have no entry in `sampled`."""
    compute_seconds: float
    """Wall time of the step in the worker."""
