"""Log-probabilities (or plain logits) of picked tokens and of their strongest rivals, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from octavo.executor.transfer import to_device, to_host
from octavo.kernels import ops
from octavo.wire.logprobs import TokenLogprobs

SCRATCH_BYTES = 192 << 20
"""Working memory for one chunk of rows."""
SMALL_K = 128
"""Rows that ask for at most so many are answered together; a row that asks for more (the vocabulary, say) by itself."""


def rows_at_once(vocab_size: int, k: int) -> int:
    """Rows of logits that fit SCRATCH_BYTES: the logits, float copies, sort keys and sorted ids of each."""
    return max(1, SCRATCH_BYTES // (48 * vocab_size + 40 * k))


def score_rows(logits: torch.Tensor, chosen: torch.Tensor, k: int, normalized: bool) -> TokenLogprobs:
    """Column 0 = `chosen`, then the k largest, of each row.

    Args:
        logits: float32 [S, V].
        chosen: int64 [S].
        normalized: log-probabilities; else the logits themselves.
    """
    k = min(k, logits.shape[1])
    ids, values, ranks = ops.top_logprobs(logits, chosen, k)
    if not normalized:
        values = logits.gather(1, ids.long())
    return TokenLogprobs(to_host(ids), to_host(values), to_host(ranks))


def score_ids(logits: torch.Tensor, chosen: torch.Tensor, ids: npt.NDArray[np.int64], normalized: bool) -> TokenLogprobs:
    """Scores of one row [1, V] with `ids` [K] instead of the k largest."""
    columns = torch.cat([chosen, to_device(ids, logits.device)]).unsqueeze(0)
    values = logits.gather(1, columns)
    ranks = (logits > values[:, :1]).sum(dim=1) + 1
    if normalized:
        values = values - torch.logsumexp(logits, dim=1, keepdim=True)
    return TokenLogprobs(to_host(columns.int()), to_host(values), to_host(ranks.int()))


def score_prompt(
    compute_logits: Callable[[torch.Tensor], torch.Tensor],
    hidden: torch.Tensor,
    targets: torch.Tensor,
    k: int,
    vocab_size: int,
    normalized: bool,
) -> TokenLogprobs:
    """Score each target against the logits of its hidden row, a chunk of rows at a time.

    Args:
        hidden: [T, H]; row t is of the token before targets[t].
        targets: int64 [T].
    """
    k = min(k, vocab_size)
    num_rows = len(targets)
    scored = TokenLogprobs(
        np.empty((num_rows, 1 + k), np.int32), np.empty((num_rows, 1 + k), np.float32), np.empty(num_rows, np.int32)
    )
    for rows in _chunks(num_rows, rows_at_once(vocab_size, k)):
        part = score_rows(compute_logits(hidden[rows]), targets[rows], k, normalized)
        scored.token_ids[rows], scored.logprobs[rows], scored.ranks[rows] = part.token_ids, part.logprobs, part.ranks
    return scored


def score_sampled(
    logits_of: Callable[[npt.NDArray[np.int64]], torch.Tensor],
    places: npt.NDArray[np.int64],
    tokens: npt.NDArray[np.int64],
    ks: npt.NDArray[np.int32],
    listed: dict[int, npt.NDArray[np.int64]],
    vocab_size: int,
    normalized: bool,
    device: torch.device,
) -> dict[int, TokenLogprobs]:
    """Scores of sampled tokens by place.

    Args:
        logits_of: gives the rows of logits [n, V] for n places.
        places: rows of logits whose requests ask, without those that ask for listed ids.
        tokens: int64 [S], what was sampled.
        ks: int32, how many rivals each of `places` asks for.
        listed: place -> ids to score instead.
    """
    scores: dict[int, TokenLogprobs] = {}
    for part in _parts(ks, vocab_size):
        k = int(ks[part].max())
        both = score_rows(logits_of(places[part]), to_device(tokens[places[part]], device), k, normalized)
        for i, n in enumerate(part.tolist()):
            scores[int(places[n])] = _row(both, i, min(int(ks[n]), vocab_size))
    for place, ids in listed.items():
        one = np.asarray([place])
        scores[place] = score_ids(logits_of(one), to_device(tokens[one], device), ids, normalized)
    return scores


def _parts(ks: npt.NDArray[np.int32], vocab_size: int) -> Iterator[npt.NDArray[np.int64]]:
    """Which requests to answer together: those with few rivals, a chunk at a time, then the others one by one."""
    small = np.flatnonzero(ks <= SMALL_K)
    for rows in _chunks(len(small), rows_at_once(vocab_size, SMALL_K)):
        yield small[rows]
    for large in np.flatnonzero(ks > SMALL_K):
        yield np.asarray([large])


def _row(scores: TokenLogprobs, i: int, k: int) -> TokenLogprobs:
    one = slice(i, i + 1)
    return TokenLogprobs(scores.token_ids[one, : 1 + k].copy(), scores.logprobs[one, : 1 + k].copy(), scores.ranks[one].copy())


def _chunks(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
