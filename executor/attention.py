"""What attention needs to know about a step, shared by all layers."""

from __future__ import annotations

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
    block_tables: torch.Tensor
    """int32 [R, B]: KV block of each request's b-th block_size tokens; entries past its length are undefined."""
    slot_mapping: torch.Tensor
    """int64 [T]: block * block_size + offset where each new token's key and value go."""
    max_query_len: int
    max_seq_len: int


KVCache = tuple[torch.Tensor, torch.Tensor]
"""One layer's (keys, values), each [num_blocks, num_kv_heads, block_size, head_dim]."""
