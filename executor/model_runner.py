"""One step on one device: StepInput -> persistent batch -> model -> sampler -> StepOutput.

Sampled tokens go straight into the persistent batch, so a step that was queued before they were known reads them there.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import torch

from octavo.cache_groups import CacheLayout
from octavo.config import EngineConfig
from octavo.executor.attention import KVCache
from octavo.executor.input_batch import InputBatch
from octavo.executor.logprobs import score_prompt
from octavo.executor.models.contract import Model
from octavo.executor.sampler import Sampled, Sampler
from octavo.executor.step import NewRequest, StepInput, StepOutput
from octavo.executor.step_layout import StepLayout
from octavo.executor.transfer import to_device

_STEP_FAILED = "the step that computed this request failed"


class ModelRunner:
    """Runs steps in order, on one thread.

    A request that cannot go on (its logits are not finite, or its step failed) is answered with an error in this and every
    further step that names it, until it leaves; the others go on.
    """

    def __init__(
        self,
        config: EngineConfig,
        model: Model,
        kv_caches: list[KVCache],
        layout: CacheLayout,
        device: torch.device,
        max_model_len: int,
    ) -> None:
        scheduler = config.scheduler
        self._model = model
        self._kv_caches = kv_caches
        self._device = device
        self._vocab_size = config.model.vocab_size
        self._normalized = config.model.logprobs_mode.endswith("logprobs")
        self.batch = InputBatch(scheduler.max_num_seqs, max_model_len, config.cache.block_size, layout.groups)
        layer_groups = tuple(place.group for place in layout.places)
        self._layout = StepLayout(self.batch, scheduler.max_num_batched_tokens, device, layer_groups)
        self._sampler = Sampler(self.batch, model, config.model.logprobs_mode, device)
        self._num_prompt_logprobs: dict[int, int] = {}
        self._failed: dict[str, str] = {}

    @torch.inference_mode()
    def execute(self, step: StepInput) -> StepOutput:
        """Compute one step.

        Raises:
            Exception: whatever went wrong with the step as a whole; its requests are answered with an error from then on.
        """
        started = time.perf_counter()
        output = StepOutput(step.step_id, {}, {}, {}, {}, 0.0)
        try:
            self._update_batch(step)
            num_tokens = self._without_failed(step.num_tokens, output) if self._failed else step.num_tokens
            if num_tokens:
                self._compute(num_tokens, step.new_blocks, output)
        except BaseException:
            self._failed.update(dict.fromkeys(step.num_tokens, _STEP_FAILED))
            raise
        output.compute_seconds = time.perf_counter() - started
        return output

    def _update_batch(self, step: StepInput) -> None:
        for request_id in step.left:
            self._remove(request_id)
        for request in step.joined:
            self._add(request)
        for request_id, block_ids in step.new_blocks.items():
            if request_id not in self._failed:
                self.batch.append_blocks(self.batch.row_of[request_id], block_ids)

    def _remove(self, request_id: str) -> None:
        self._failed.pop(request_id, None)
        row = self.batch.remove(request_id)
        if row is not None:
            self._sampler.remove(row)
            self._num_prompt_logprobs.pop(row, None)

    def _add(self, request: NewRequest) -> None:
        row = self.batch.add(request)
        self._sampler.add(row, request.sampling)
        if request.sampling.prompt_logprobs is not None:
            self._num_prompt_logprobs[row] = request.sampling.prompt_logprobs

    def _without_failed(self, num_tokens: dict[str, int], output: StepOutput) -> dict[str, int]:
        output.errors = {request_id: self._failed[request_id] for request_id in num_tokens if request_id in self._failed}
        return {request_id: count for request_id, count in num_tokens.items() if request_id not in self._failed}

    def _compute(self, num_tokens: dict[str, int], new_blocks: dict[str, list[list[int]]], output: StepOutput) -> None:
        input_ids, positions, attention = self._layout.arrange(num_tokens, new_blocks)
        hidden = self._model.forward(input_ids, positions, self._kv_caches, attention)
        self.batch.num_computed[self._layout.rows] = self._layout.stop
        if self._num_prompt_logprobs:
            self._score_prompts(hidden, output)
        self._sample(hidden, output)

    def _sample(self, hidden: torch.Tensor, output: StepOutput) -> None:
        layout = self._layout
        rows, request_ids = layout.rows, layout.request_ids
        if not layout.all_sample:
            where = np.flatnonzero(layout.sampling)
            if not len(where):
                return
            rows, request_ids = rows[where], [request_ids[i] for i in where.tolist()]
        if len(rows) != len(hidden):
            last = layout.query_starts[1:][layout.sampling].astype(np.int64) - 1
            hidden = hidden[to_device(last, self._device)]
        sampled = self._sampler.sample(hidden, rows)
        self._append(rows, sampled.tokens)
        self._report(request_ids, sampled, output)

    def _append(self, rows: npt.NDArray[np.int64], tokens: npt.NDArray[np.int64]) -> None:
        """The next step finds the tokens here."""
        batch = self.batch
        known = batch.num_tokens[rows]
        batch.token_ids[rows, known] = tokens
        batch.num_tokens[rows] = known + 1

    def _report(self, request_ids: list[str], sampled: Sampled, output: StepOutput) -> None:
        output.sampled = {request_id: [token] for request_id, token in zip(request_ids, sampled.tokens.tolist(), strict=True)}
        output.logprobs = {request_ids[i]: scores for i, scores in sampled.logprobs.items()}
        for i, reason in sampled.errors.items():
            request_id = request_ids[i]
            del output.sampled[request_id]
            output.errors[request_id] = self._failed[request_id] = reason

    def _score_prompts(self, hidden: torch.Tensor, output: StepOutput) -> None:
        """Score the prompt tokens that follow those computed in this step."""
        layout, batch = self._layout, self.batch
        for i, row in enumerate(layout.rows.tolist()):
            k = self._num_prompt_logprobs.get(row)
            first = int(layout.first[i]) + 1
            targets = batch.token_ids[row, first : min(int(layout.stop[i]) + 1, int(batch.num_prompt[row]))]
            if k is None or not len(targets):
                continue
            start = int(layout.query_starts[i])
            output.prompt_logprobs[layout.request_ids[i]] = score_prompt(
                self._model.compute_logits,
                hidden[start : start + len(targets)],
                to_device(targets.astype(np.int64), self._device),
                k,
                self._vocab_size,
                self._normalized,
            )
