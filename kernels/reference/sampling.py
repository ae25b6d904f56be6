"""From logits to tokens and their log-probabilities."""

from __future__ import annotations

from typing import Any

import torch

from octavo.kernels.reference.linear import linear

NOT_FROM_ALL = "a product's rows are drawn from all tokens: top_k, top_p and min_p must be off"


def sample(logits: torch.Tensor, draws: torch.Tensor | None, tokens: torch.Tensor, peaks: torch.Tensor) -> None:
    """See `ops.sample`."""
    tokens.copy_(torch.argmax(logits, dim=-1))
    peaks.copy_(logits.gather(1, tokens.unsqueeze(1)).squeeze(1))
    if draws is None:
        return
    drawn = (draws[:, 0].float() > 0) & torch.isfinite(peaks)
    # Every row is drawn, on a GPU that costs less than to ask which are to be.
    tokens.copy_(torch.where(drawn, _draw(logits, draws), tokens))


def sample_linear(x: torch.Tensor, packed: Any, draws: torch.Tensor | None, tokens: torch.Tensor, peaks: torch.Tensor) -> None:
    """See `ops.sample_linear`."""
    logits = linear(x, packed, wide=True)
    if draws is not None:
        _, top_k, top_p, min_p, _ = draws.unbind(1)
        if bool((((top_k > 0) & (top_k < logits.shape[1])) | (top_p < 1) | (min_p > 0)).any()):
            raise ValueError(NOT_FROM_ALL)
    sample(logits, draws, tokens, peaks)


def _draw(logits: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    temperature, _, top_p, min_p, _ = draws.float().unbind(1)
    top_k, uniform = draws[:, 1].long(), draws[:, 4]
    limits = torch.finfo(torch.float32)
    sharpness = (1 / temperature).clamp(limits.tiny, limits.max)
    scaled = (logits - logits.amax(dim=-1, keepdim=True)) * sharpness.unsqueeze(1)
    probs = torch.softmax(scaled, dim=-1)
    probs = probs.masked_fill(probs < min_p.unsqueeze(1) * probs.amax(dim=-1, keepdim=True), 0.0)
    if bool(((top_k > 0) | (top_p < 1)).any()):
        probs = _keep_likely(probs, scaled, top_k, top_p)
    return _invert(probs.double().cumsum(dim=-1), uniform)


def _keep_likely(probs: torch.Tensor, scaled: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Zero what top-k, then top-p of the rest, remove. Order by logit, ties to the lower id, as probabilities may underflow."""
    vocab_size = probs.shape[1]
    order = torch.sort(scaled, dim=-1, descending=True, stable=True).indices
    ordered = probs.gather(1, order).double()
    k = torch.where(top_k > 0, top_k.clamp(max=vocab_size), vocab_size).unsqueeze(1)
    ordered = ordered.masked_fill(torch.arange(vocab_size, device=probs.device) >= k, 0.0)
    reached = ordered.cumsum(dim=-1)
    wanted = torch.where(top_p < 1, top_p.double(), 2.0).unsqueeze(1) * reached[:, -1:]
    ordered = ordered.masked_fill(reached - ordered >= wanted, 0.0)
    return torch.zeros_like(probs).scatter_(1, order, ordered.to(probs.dtype))


def _invert(cumulative: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """First index whose cumulative sum passes `uniform` times the total."""
    total = cumulative[:, -1:]
    # Rounding may lift the target to the total itself, which nothing passes.
    below = torch.nextafter(total, torch.zeros_like(total))
    target = torch.minimum(uniform.unsqueeze(1) * total, below)
    return torch.searchsorted(cumulative, target, right=True).squeeze(1)


def top_logprobs(logits: torch.Tensor, chosen: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """See `ops.top_logprobs`."""
    chosen_logits = logits.gather(1, chosen.unsqueeze(1))
    ids = torch.cat([chosen.unsqueeze(1), _top_ids(logits, k)], dim=1)
    logprobs = logits.gather(1, ids) - torch.logsumexp(logits, dim=-1, keepdim=True)
    ranks = (logits > chosen_logits).sum(dim=-1) + 1
    return ids.int(), logprobs, ranks.int()


def _top_ids(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Ids of each row's k largest, in order, ties to the lower id (which torch.topk leaves open)."""
    bits = (logits.float() + 0.0).view(torch.int32)
    # Flipping the magnitude bits of negative floats makes integer order equal float order.
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    ids = torch.arange(logits.shape[1], device=logits.device)
    return torch.topk((ordered << 32) - ids, k, dim=1, sorted=True).indices
