"""From logits to tokens and their log-probabilities. What they do is said in `octavo.kernels.ops`."""

from __future__ import annotations

import torch

from octavo.kernels.cpu import _native
from octavo.kernels.cpu.native import check_rows


def argmax(logits: torch.Tensor) -> torch.Tensor:
    """See `ops.argmax`."""
    logits = _checked(logits)
    out = torch.empty(logits.shape[0], dtype=torch.int64)
    _native.argmax(logits.data_ptr(), logits.stride(0), logits.shape[0], logits.shape[1], out.data_ptr())
    return out


def sample(
    logits: torch.Tensor,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
    uniform: torch.Tensor,
) -> torch.Tensor:
    """See `ops.sample`."""
    logits = _checked(logits)
    rows, vocab_size = logits.shape
    # Bound to names so that a converted copy lives until the kernel has read it.
    temperature, top_p, min_p = (_vector(x, torch.float32, rows) for x in (temperature, top_p, min_p))
    top_k, uniform = _vector(top_k, torch.int32, rows), _vector(uniform, torch.float64, rows)
    out = torch.empty(rows, dtype=torch.int64)
    _native.sample(
        logits.data_ptr(), logits.stride(0), rows, vocab_size, temperature.data_ptr(), top_k.data_ptr(), top_p.data_ptr(),
        min_p.data_ptr(), uniform.data_ptr(), out.data_ptr(),
    )  # fmt: skip
    return out


def top_logprobs(logits: torch.Tensor, chosen: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """See `ops.top_logprobs`.

    Raises:
        IndexError: a chosen id outside the vocabulary, or k larger than it.
    """
    logits = _checked(logits)
    rows, vocab_size = logits.shape
    if not 0 <= k <= vocab_size:
        raise IndexError(f"k must lie in [0, {vocab_size}], got {k}")
    chosen = _vector(chosen, torch.int64, rows)
    ids, ranks = torch.empty((rows, 1 + k), dtype=torch.int32), torch.empty(rows, dtype=torch.int32)
    logprobs = torch.empty((rows, 1 + k), dtype=torch.float32)
    inside = _native.top_logprobs(
        logits.data_ptr(), logits.stride(0), rows, vocab_size, chosen.data_ptr(), k, ids.data_ptr(), logprobs.data_ptr(),
        ranks.data_ptr(),
    )  # fmt: skip
    if not inside:
        raise IndexError(f"chosen ids must lie in [0, {vocab_size}), got {int(chosen.min())} to {int(chosen.max())}")
    return ids, logprobs, ranks


def _checked(logits: torch.Tensor) -> torch.Tensor:
    logits = logits.float()
    check_rows("logits", logits)
    return logits


def _vector(x: torch.Tensor, dtype: torch.dtype, rows: int) -> torch.Tensor:
    if x.shape != (rows,):
        raise ValueError(f"one value a row is needed, [{rows}], got {list(x.shape)}")
    return x.to(dtype).contiguous()
