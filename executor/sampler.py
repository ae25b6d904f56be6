"""From logits to tokens: filters, penalties, greedy or random choice, log-probabilities.

The order is vLLM's: raw logprobs are those before any change; then allowed ids, bad words, minimum length and bias,
penalties; then the largest logit, or temperature, min-p, top-k, top-p and a draw. Which rows use what is known from when
they joined, so a batch of plain requests pays for one call, in which the head's logits are not even written, and the check of
what it gives.

After the model has gone through the caches every call is a cold one, so the common path makes few: above all it makes no
array a tensor and no tensor an array, which then takes 60 us.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from octavo.config import LogprobsMode
from octavo.executor.input_batch import InputBatch
from octavo.executor.logits_filters import AllowedTokens, BadWords, LogitBias, LogitsFilter, MinTokens
from octavo.executor.logprobs import score_sampled
from octavo.executor.penalties import Penalties
from octavo.executor.rng import uniforms
from octavo.executor.sampling_rows import SamplingRows
from octavo.executor.step import Masks
from octavo.executor.token_masks import apply_masks
from octavo.executor.transfer import to_device, to_host
from octavo.kernels import ops
from octavo.wire.logprobs import TokenLogprobs
from octavo.wire.sampling_spec import SamplingSpec

Rows = npt.NDArray[np.int64]

_Sample = Callable[[torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor], None]
"""`ops.sample`, or a head's."""

_BROKEN = "the model computed logits that are not finite"
_ALL_FORBIDDEN = "allowed_token_ids, bad_words, min_tokens, logit_bias and masks together forbid every token"


class Head(Protocol):
    """Where logits come from. R rows, H hidden size, V vocabulary."""

    def compute_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[R, H] -> float32 [R, V], which the caller may change."""

    def sample(self, hidden: torch.Tensor, draws: torch.Tensor | None, tokens: torch.Tensor, peaks: torch.Tensor) -> None:
        """`ops.sample` of the logits of hidden [R, H], drawing from all tokens."""


@dataclass(slots=True)
class Sampled:
    """What was picked for S rows of logits.

    Attributes:
        tokens: int64 [S], good until the next step; without meaning where there is an error.
        logprobs: row of logits -> scores, for requests that asked.
        errors: row of logits -> why no token could be picked.
    """

    tokens: npt.NDArray[np.int64]
    logprobs: dict[int, TokenLogprobs] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)


class _Lot:
    """What S rows are drawn with, gathered from the parameters of all rows.

    Attributes:
        version: of the batch it was gathered from.
        greedy: no row is drawn.
        from_all: no token is removed before a row is drawn.
        draws: float64 [S, 5], of `ops.sample`, in the host's memory.
        uniform: its last column, to be written in every step.
        keys: uint64 [S]. num_prompt: int64 [S].
    """

    def __init__(self, rows: Rows, params: SamplingRows, batch: InputBatch) -> None:
        draws = params.draws[rows]
        self.rows = rows
        self.version = batch.version
        self.greedy = not draws[:, 0].any()
        self.from_all = bool(((draws[:, 1] <= 0) & (draws[:, 2] >= 1) & (draws[:, 3] <= 0)).all())
        self.draws = torch.from_numpy(draws)
        self.uniform = draws[:, 4]
        self.keys = params.key[rows]
        self.num_prompt = batch.num_prompt[rows]


class _Picks:
    """Where S tokens and their rows' largest logits are written, step after step."""

    def __init__(self, num_rows: int, device: torch.device) -> None:
        self.tokens = torch.zeros(num_rows, dtype=torch.int64, device=device)
        self.peaks = torch.zeros(num_rows, dtype=torch.float32, device=device)
        self._shared = (to_host(self.tokens), to_host(self.peaks)) if device.type == "cpu" else None

    def __len__(self) -> int:
        return len(self.tokens)

    def on_host(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Both, good until they are written again."""
        return self._shared or (to_host(self.tokens), to_host(self.peaks))


class Sampler:
    """Picks tokens for rows of the persistent batch, whose sampling parameters it keeps."""

    def __init__(self, batch: InputBatch, head: Head, logprobs_mode: LogprobsMode, device: torch.device) -> None:
        self._batch = batch
        self._head = head
        self._device = device
        self._processed = logprobs_mode.startswith("processed")
        self._normalized = logprobs_mode.endswith("logprobs")
        self._params = SamplingRows(batch.max_num_seqs)
        self._lot: _Lot | None = None
        self._picks = _Picks(0, device)
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

    def sample(self, hidden: torch.Tensor, rows: Rows, masks: Masks | None = None) -> Sampled:
        """Pick one token for each row of the batch in `rows`.

        Args:
            hidden: [S, H], what the logits come from.
            rows: int64 [S], without duplicates; the batch does not hold the new tokens yet.
            masks: which tokens some rows may sample.
        """
        filters = [f for f in self._filters if f.rows]
        lot = self._lot_of(rows) if self._params.random else None
        if not filters and masks is None and not self._params.scored and (lot is None or lot.from_all):
            return self._pick(hidden, rows, lot, self._head.sample)
        logits = self._head.compute_logits(hidden)
        asking = self._asking(rows)
        changed = bool(filters) or masks is not None
        raw = logits.clone() if changed and len(asking) and not self._processed else logits
        index = {row: i for i, row in enumerate(rows.tolist())} if changed else {}
        if masks is not None:
            apply_masks(logits, masks, index)
        for logits_filter in filters:
            logits_filter.apply(logits, index)
        sampled = self._pick(logits, rows, lot, ops.sample)
        if self._penalties.rows:
            self._penalties.accept(sampled.tokens, index)
        if len(asking):
            self._score(sampled, logits if self._processed else raw, rows, asking)
        return sampled

    def sample_at(self, hidden: torch.Tensor, rows: Rows, offsets: Rows, masks: Masks | None = None) -> Sampled:
        """Pick tokens where some rows verify drafts: at several positions of those, as if the drafts before had been accepted.

        Args:
            hidden: [S, H].
            rows: int64 [S]. One that comes several times verifies drafts; its request has no penalties, filters, masks or
                logprobs. The others are sampled as in any step.
            offsets: int64 [S], how many tokens of the row come before in this step.
            masks: which tokens some of the rows without drafts may sample.
        """
        drafted = np.bincount(rows)[rows] > 1
        if drafted.all():
            return self._sample_drafted(hidden, rows, offsets)
        whole = Sampled(np.zeros(len(rows), np.int64))
        several, single = np.flatnonzero(drafted), np.flatnonzero(~drafted)
        if len(several):
            states = hidden[to_device(several, self._device)]
            _put(whole, self._sample_drafted(states, rows[several], offsets[several]), several)
        _put(whole, self.sample(hidden[to_device(single, self._device)], rows[single], masks), single)
        return whole

    def _sample_drafted(self, hidden: torch.Tensor, rows: Rows, offsets: Rows) -> Sampled:
        """`sample_at` of rows that all verify drafts."""
        lot = _Lot(rows, self._params, self._batch) if self._params.random else None
        if lot is not None and not lot.greedy:
            drafts = np.bincount(rows, minlength=self._batch.max_num_seqs)[rows] - 1
            lot.uniform[:] = uniforms(lot.keys, self._batch.num_tokens[rows] - drafts + offsets - lot.num_prompt)
        sample: _Sample = self._head.sample
        if lot is not None and not lot.from_all:
            hidden, sample = self._head.compute_logits(hidden), ops.sample
        return self._pick_with(hidden, len(rows), lot, sample)

    def _asking(self, rows: Rows) -> Rows:
        """Which of `rows` want logprobs."""
        scored = self._params.scored
        return np.asarray([i for i, row in enumerate(rows.tolist()) if row in scored] if scored else [], np.int64)

    def _pick(self, x: torch.Tensor, rows: Rows, lot: _Lot | None, sample: _Sample) -> Sampled:
        """x: [S, ...], what `sample` takes: logits or hidden states."""
        if lot is not None and not lot.greedy:
            lot.uniform[:] = uniforms(lot.keys, self._batch.num_tokens[rows] - lot.num_prompt)
        return self._pick_with(x, len(rows), lot, sample)

    def _pick_with(self, x: torch.Tensor, num_rows: int, lot: _Lot | None, sample: _Sample) -> Sampled:
        """`_pick` with the random numbers that the lot has."""
        if len(self._picks) != num_rows:
            self._picks = _Picks(num_rows, self._device)
        picks, draws = self._picks, None
        if lot is not None and not lot.greedy:
            draws = lot.draws.to(self._device)
        sample(x, draws, picks.tokens, picks.peaks)
        tokens, peaks = picks.on_host()
        return Sampled(tokens, errors=_errors(peaks))

    def _lot_of(self, rows: Rows) -> _Lot:
        """What `rows` are drawn with. The step's layout gives the same array as long as the same requests are sampled."""
        if self._lot is None or self._lot.rows is not rows or self._lot.version != self._batch.version:
            self._lot = _Lot(rows, self._params, self._batch)
        return self._lot

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
        random = self._params.draws[rows, 0] > 0
        if not random.any():
            return logits
        where = np.flatnonzero(random)
        logits = logits.clone()
        place = to_device(where, self._device)
        logits[place] = narrow(logits[place], to_device(self._params.draws[rows[where]], self._device))
        return logits


def _put(whole: Sampled, part: Sampled, places: Rows) -> None:
    """Write what was picked for some rows of logits to their places; the part's arrays may be written again afterwards."""
    whole.tokens[places] = part.tokens
    whole.logprobs.update({int(places[i]): scores for i, scores in part.logprobs.items()})
    whole.errors.update({int(places[i]): reason for i, reason in part.errors.items()})


def _errors(peaks: npt.NDArray[np.float32]) -> dict[int, str]:
    """Why rows with these largest logits have no token."""
    if all(map(math.isfinite, peaks.tolist())):
        return {}
    return {i: _ALL_FORBIDDEN if peaks[i] == -np.inf else _BROKEN for i in np.flatnonzero(~np.isfinite(peaks)).tolist()}


def narrow(logits: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Logits [n, V] divided by temperature, -inf where min-p, top-k or top-p remove a token (see `ops.sample`)."""
    temperature, _, top_p, min_p, _ = draws.float().unbind(1)
    top_k = draws[:, 1]
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
