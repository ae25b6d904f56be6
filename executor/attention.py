"""What attention needs to know about a step, shared by all layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch


@dataclass(slots=True)
class AttentionMetadata:
    """The step's requests laid out over the flat token dimension; R requests, T tokens.

    Filled by the model runner, read by the attention layers. Decode, prefill and mixed batches look the same: a request
    has `query_starts[r+1] - query_starts[r]` new tokens at the end of a context of `seq_lens[r]` tokens.
    """

    query_starts: torch.Tensor
    """int32 [R + 1], first entry 0, last T."""
    seq_lens: torch.Tensor
    """int32 [R], tokens in context, this step's included."""
    encoder_lens: torch.Tensor
    """int32 [R], tokens of the encoder's output that each request attends to; 0 where there is no encoder."""
    block_tables: tuple[torch.Tensor, ...]
    """Of each cache group int32 [R, B], all with the same strides: KV block of each request's b-th block_size tokens; entries
    past its length are undefined, those that lie wholly before the group's window are never read."""
    slot_mapping: tuple[torch.Tensor, ...]
    """Of each cache group int64 [T]: block * block_size + offset where each new token's key and value go; -1, nowhere, in
    cross-attention groups."""
    layer_groups: tuple[int, ...]
    """Cache group of each layer that has a cache."""
    row_inputs: Sequence[RowInputs] = ()
    """Of each request, what it brings beside tokens; empty unless the model takes such (`Model.row_inputs`)."""


RowInputs = Mapping[str, torch.Tensor]
"""What one request brings beside tokens, by name."""

KVCache = tuple[torch.Tensor, torch.Tensor]
"""One layer's (keys, values), each [num_blocks, num_kv_heads, block_size, head_dim]; of a latent cache both are the one tensor
that there is. Layers of different groups share memory, never blocks: each block belongs to one group at a time."""
