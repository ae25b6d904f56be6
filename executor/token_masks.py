"""Masks over the vocabulary: what a grammar allows a row to sample next."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from octavo.executor.step import Masks


def apply_masks(logits: torch.Tensor, masks: Masks, index: Mapping[int, int]) -> None:
    """Forbid in logits float32 [S, V] what the masks do not allow; `index` maps rows of the batch to rows of logits."""
    for row, bits in zip(masks.rows, masks.bits, strict=True):
        where = index.get(row)
        if where is not None:
            allowed = np.unpackbits(bits.view(np.uint8), count=logits.shape[1], bitorder="little")
            logits[where].masked_fill_(torch.from_numpy(allowed == 0).to(logits.device), -torch.inf)
