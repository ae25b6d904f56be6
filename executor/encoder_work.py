"""What an encoder makes of a request's inputs, before its tokens are computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from octavo.executor.attention import AttentionMetadata, KVCache
from octavo.executor.input_batch import InputBatch
from octavo.executor.models.contract import Model
from octavo.executor.step import EncoderItem


@runtime_checkable
class EncoderDecoder(Protocol):
    """A model whose decoder attends to what its encoder gives."""

    def encode(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """One item's inputs by name -> features [n, H]."""

    def keep(self, features: torch.Tensor, kv_caches: list[KVCache], attn: AttentionMetadata) -> None:
        """Write the features' keys and values [n, H] to the slots that `attn` names for the cross-attention groups."""


def run_encoder(
    model: Model, items: Sequence[EncoderItem], batch: InputBatch, kv_caches: list[KVCache], layer_groups: tuple[int, ...]
) -> None:
    """Encode each item and keep what comes out in the blocks of its row.

    Raises:
        TypeError: the model has no encoder.
        ValueError: an encoder gave another number of features than its row has blocks for.
    """
    if not isinstance(model, EncoderDecoder):
        raise TypeError(f"{type(model).__name__} has no encoder")
    for item in items:
        features = model.encode({name: torch.from_numpy(value) for name, value in item.inputs.items()})
        if len(features) != batch.num_encoder_tokens[item.row]:
            expected = batch.num_encoder_tokens[item.row]
            raise ValueError(f"request {batch.names[item.row]}: the encoder gave {len(features)} features, not {expected}")
        model.keep(features, kv_caches, _slots(len(features), item.row, batch, layer_groups))


def _slots(length: int, row: int, batch: InputBatch, layer_groups: tuple[int, ...]) -> AttentionMetadata:
    """An encoder's features as a step of one request, with the slots of the row's cross-attention groups."""
    index = np.arange(length)
    blocks = batch.block_tables[:, row, index // batch.block_size].astype(np.int64)
    slots = torch.from_numpy(np.ascontiguousarray(blocks * batch.block_size + index % batch.block_size))
    lengths = torch.tensor([length], dtype=torch.int32)
    tables = torch.from_numpy(np.ascontiguousarray(batch.block_tables[:, row : row + 1]))
    starts = torch.tensor([0, length], dtype=torch.int32)
    return AttentionMetadata(starts, lengths, lengths, tables.unbind(), slots.unbind(), layer_groups)
