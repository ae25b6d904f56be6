"""From logits to tokens: filters, penalties, greedy or random choice, log-probabilities.

The order is vLLM's: raw logprobs are those before any change; then allowed ids, bad words, minimum length and bias,
penalties; then the largest logit, or temperature, min-p, top-k, top-p and a draw. Which rows use what is known from when
they joined, so a batch of plain greedy requests pays for one argmax and its check.

After the model has gone through the caches every call is a cold one, so the common path makes few.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from octavo.config import LogprobsMode
from octavo.executor.input_batch import InputBatch
from octavo.executor.logits_filters import AllowedTokens, BadWords, LogitBias, LogitsFilter, MinTokens
from octavo.executor.logprobs import score_sampled
from octavo.executor.penalties import Penalties
from octavo.executor.sampling_rows import SamplingRows
from octavo.executor.step import TokenLogprobs
from octavo.executor.transfer import to_device, to_host
from octavo.kernels import ops
from octavo.params import SamplingSpec

Rows = npt.NDArray[np.int64]

_BROKEN = "the model computed logits that are not finite"
_ALL_FORBIDDEN = "allowed_token_ids, bad_words, min_tokens and logit_bias together forbid every token"


@dataclass(slots=True)
class Sampled:
    """What was picked for S rows of logits.

    Attributes:
        tokens: int64 [S]; undefined where there is an error.
        logprobs: row of logits -> scores, for requests that asked.
        errors: row of logits -> why no token could be picked.
    """

    tokens: npt.NDArray[np.int64]
    logprobs: dict[int, TokenLogprobs] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)


class Sampler:
    """Picks tokens for rows of the persistent batch, whose sampling parameters it keeps."""

    def __init__(self, batch: InputBatch, logprobs_mode: LogprobsMode, device: torch.device) -> None:
        self._batch = batch
        self._device = device
        self._iota = np.arange(batch.max_num_seqs)
        self._processed = logprobs_mode.startswith("processed")
        self._normalized = logprobs_mode.endswith("logprobs")
        self._params = SamplingRows(batch.max_num_seqs)
        self._penalties = Penalties(batch)
        self._filters: tuple[LogitsFilter, ...] = (
            AllowedTokens(),
            BadWords(batch),
            MinTokens(batch),
            LogitBias(),
            self._penalties,
        )

    def add(self, row: int, spec: SamplingSpec) -> None:
        """A request joined in `row`; the batch holds it already."""
        self._params.add(row, spec)
        for logits_filter in self._filters:
            logits_filter.add(row, spec)

    def remove(self, row: int) -> None:
        """The request in `row` left."""
        self._params.remove(row)
        for logits_filter in self._filters:
            logits_filter.remove(row)

    def sample(self, logits: torch.Tensor, rows: Rows) -> Sampled:
        """Pick one token for each row of the batch in `rows`.

        Args:
            logits: float32 [S, V]; changed in place.
            rows: int64 [S], without duplicates; the batch does not hold the new tokens yet.
        """
        filters = [f for f in self._filters if f.rows]
        if not filters and not self._params.scored:
            return self._pick(logits, rows)
        asking = self._asking(rows)
        raw = logits.clone() if filters and len(asking) and not self._processed else logits
        index = {row: i for i, row in enumerate(rows.tolist())} if filters else {}
        for logits_filter in filters:
            logits_filter.apply(logits, index)
        sampled = self._pick(logits, rows)
        if self._penalties.rows:
            self._penalties.accept(sampled.tokens, index)
        if len(asking):
            self._score(sampled, logits if self._processed else raw, rows, asking)
        return sampled

    def _asking(self, rows: Rows) -> Rows:
        """Which of `rows` want logprobs."""
        scored = self._params.scored
        return np.asarray([i for i, row in enumerate(rows.tolist()) if row in scored] if scored else [], np.int64)

    def _pick(self, logits: torch.Tensor, rows: Rows) -> Sampled:
        best = ops.argmax(logits)
        sampled = Sampled(to_host(best))
        peaks = self._logits_at(logits, best)
        healthy = all(map(math.isfinite, peaks.tolist()))
        finite = None if healthy else np.isfinite(peaks)
        if finite is not None:
            sampled.errors = {int(i): _ALL_FORBIDDEN if peaks[i] == -np.inf else _BROKEN for i in np.flatnonzero(~finite)}
        if self._params.random:
            random = self._params.temperature[rows] > 0
            self._draw(logits, rows, sampled.tokens, random if finite is None else random & finite)
        return sampled

    def _logits_at(self, logits: torch.Tensor, tokens: torch.Tensor) -> npt.NDArray[np.float32]:
        """The logit of one token a row. On a CPU by numpy, whose indexing is one call."""
        if logits.device.type == "cpu":
            picked: npt.NDArray[np.float32] = logits.numpy()[self._iota[: len(tokens)], tokens.numpy()]
            return picked
        return to_host(logits.gather(1, tokens.unsqueeze(1)).squeeze(1))

    def _draw(self, logits: torch.Tensor, rows: Rows, tokens: npt.NDArray[np.int64], random: npt.NDArray[np.bool_]) -> None:
        """Replace the tokens of the random rows by draws."""
        if not random.all():
            where = np.flatnonzero(random)
            if not len(where):
                return
            rows, logits = rows[where], logits[to_device(where, self._device)]
        temperature, top_k, top_p, min_p = self._knobs(rows)
        positions = self._batch.num_tokens[rows] - self._batch.num_prompt[rows]
        uniform = to_device(self._params.uniforms(rows, positions), self._device)
        tokens[random] = to_host(ops.sample(logits, temperature, top_k, top_p, min_p, uniform))

    def _knobs(self, rows: Rows) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Temperature, top_k, top_p, min_p of each of `rows`."""
        p, device = self._params, self._device
        return (
            to_device(p.temperature[rows], device),
            to_device(p.top_k[rows], device),
            to_device(p.top_p[rows], device),
            to_device(p.min_p[rows], device),
        )

    def _score(self, sampled: Sampled, logits: torch.Tensor, rows: Rows, asking: Rows) -> None:
        """Fill `sampled.logprobs` from the raw or processed logits."""
        asking = asking[[int(i) not in sampled.errors for i in asking]]
        ids = self._params.logprob_ids
        listed = {int(i): ids[int(rows[i])] for i in asking if int(rows[i]) in ids} if ids else {}
        places = asking[[int(i) not in listed for i in asking]]

        def logits_of(some: Rows) -> torch.Tensor:
            part = logits if len(some) == len(logits) else logits[to_device(some, self._device)]
            return self._narrowed(part, rows[some]) if self._processed else part

        sampled.logprobs = score_sampled(
            logits_of,
            places,
            sampled.tokens,
            self._params.num_logprobs[rows[places]],
            listed,
            logits.shape[1],
            self._normalized,
            self._device,
        )

    def _narrowed(self, logits: torch.Tensor, rows: Rows) -> torch.Tensor:
        """What random rows draw from: logits [n, V] after temperature, min-p, top-k and top-p. Greedy rows stay."""
        random = self._params.temperature[rows] > 0
        if not random.any():
            return logits
        where = np.flatnonzero(random)
        logits = logits.clone()
        place = to_device(where, self._device)
        logits[place] = narrow(logits[place], *self._knobs(rows[where]))
        return logits


def narrow(
    logits: torch.Tensor, temperature: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor, min_p: torch.Tensor
) -> torch.Tensor:
    """Logits [n, V] divided by temperature, -inf where min-p, top-k or top-p remove a token (see `ops.sample`)."""
    scaled = logits / temperature.unsqueeze(1)
    lowest = scaled.amax(dim=1) + torch.log(min_p)
    scaled = scaled.masked_fill(scaled < lowest.unsqueeze(1), -torch.inf)
    ordered, order = torch.sort(scaled, dim=1, descending=True, stable=True)
    k = torch.where(top_k > 0, top_k, logits.shape[1]).unsqueeze(1)
    ordered = ordered.masked_fill(torch.arange(logits.shape[1], device=logits.device) >= k, -torch.inf)
    probs = torch.softmax(ordered.double(), dim=1)
    before = probs.cumsum(dim=1) - probs
    removed = (before >= top_p.unsqueeze(1)) & (top_p < 1).unsqueeze(1)
    return torch.empty_like(scaled).scatter_(1, order, ordered.masked_fill(removed, -torch.inf))
