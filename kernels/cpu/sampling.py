"""From logits to tokens and their log-probabilities. What they do is said in `octavo.kernels.ops`."""

from __future__ import annotations

import torch

from octavo.kernels.cpu import _native
from octavo.kernels.cpu.linear import PANEL, PackedLinear, check_x, padded
from octavo.kernels.cpu.native import check_rows, type_code
from octavo.kernels.reference.sampling import NOT_FROM_ALL


def sample(logits: torch.Tensor, draws: torch.Tensor | None, tokens: torch.Tensor, peaks: torch.Tensor) -> None:
    """See `ops.sample`."""
    logits = _checked(logits)
    rows, vocab_size = logits.shape
    choice = _choice(rows, draws, tokens, peaks)
    _native.sample(logits.data_ptr(), logits.stride(0), rows, vocab_size, *choice)


def sample_linear(
    x: torch.Tensor, packed: PackedLinear, draws: torch.Tensor | None, tokens: torch.Tensor, peaks: torch.Tensor
) -> None:
    """See `ops.sample_linear`.

    Raises:
        ValueError: a tensor does not fit, or a row is to be drawn from less than all tokens.
    """
    check_x(x, packed)
    rows = x.shape[0]
    choice = _choice(rows, draws, tokens, peaks)
    runs = torch.empty((rows, 2, padded(packed.n) // PANEL))
    if not _native.sample_linear(type_code(x), x.data_ptr(), x.stride(0), rows, packed.native, *choice, runs.data_ptr()):
        raise ValueError(NOT_FROM_ALL)


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
    if logits.dtype is not torch.float32:
        logits = logits.float()
    check_rows("logits", logits)
    return logits


def _choice(rows: int, draws: torch.Tensor | None, tokens: torch.Tensor, peaks: torch.Tensor) -> tuple[int, int, int]:
    """Addresses of what says how tokens are chosen, and of where they are written."""
    if draws is not None:
        _check("draws", draws, torch.float64, (rows, 5))
    _check("tokens", tokens, torch.int64, (rows,))
    _check("peaks", peaks, torch.float32, (rows,))
    return 0 if draws is None else draws.data_ptr(), tokens.data_ptr(), peaks.data_ptr()


def _check(name: str, x: torch.Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if x.dtype is not dtype or x.shape != shape or not x.is_contiguous():
        raise ValueError(f"{name} must be {dtype} {list(shape)}, contiguous, got {x.dtype} {list(x.shape)}")


def _vector(x: torch.Tensor, dtype: torch.dtype, rows: int) -> torch.Tensor:
    if x.shape != (rows,):
        raise ValueError(f"one value a row is needed, [{rows}], got {list(x.shape)}")
    return x.to(dtype).contiguous()
