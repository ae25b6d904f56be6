"""One step on one device: StepInput -> persistent batch -> model -> readouts -> StepOutput.

Sampled tokens go straight into the persistent batch, so a step that was queued before they were known reads them there.
"""

from __future__ import annotations

from array import array

import numpy as np
import torch

from octavo.cache_groups import CacheLayout
from octavo.config import EngineConfig
from octavo.executor.attention import KVCache, RowInputs
from octavo.executor.block_copies import copy_blocks
from octavo.executor.drafts import DraftedStep
from octavo.executor.encoder_work import run_encoder
from octavo.executor.input_batch import InputBatch
from octavo.executor.logprobs import score_prompt
from octavo.executor.models.contract import Model
from octavo.executor.pooler import Pooled, Pooler
from octavo.executor.pooling_head import PoolingHead
from octavo.executor.sampler import Sampled, Sampler
from octavo.executor.step import Masks, NewRequest, StepInput, StepOutput, ints
from octavo.executor.step_layout import StepLayout
from octavo.executor.transfer import to_device, to_host

_STEP_FAILED = "the step that computed this request failed"


class ModelRunner:
    """Runs steps in order, on one thread.

    A request that cannot go on (its logits are not finite, or its step failed) is answered with an error in this and every
    further step that names its row, until it leaves; the others go on.
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
        self._groups = layout.groups
        self.batch = InputBatch(scheduler.max_num_seqs, max_model_len, config.cache.block_size, layout.groups)
        self._layer_groups = tuple(place.group for place in layout.places)
        self._layout = StepLayout(self.batch, scheduler.max_num_batched_tokens, device, self._layer_groups)
        self._sampler = Sampler(self.batch, model, config.model.logprobs_mode, device)
        self._pooler = Pooler()
        self._pooling_head = PoolingHead(config.model.pooling, model)
        self._takes_inputs = bool(model.row_inputs)
        self._inputs: dict[int, RowInputs] = {}
        self._num_prompt_logprobs: dict[int, int] = {}
        self._failed: dict[int, str] = {}

    @torch.inference_mode()
    def execute(self, step: StepInput) -> StepOutput:
        """Compute one step.

        Raises:
            Exception: whatever went wrong with the step as a whole; its requests are answered with an error from then on.
        """
        output = StepOutput(step.step_id, ints(), ints())
        try:
            self._update_batch(step)
            if self._failed:
                step = self._without_failed(step, output)
            self._prepare(step)
            if step.rows:
                self._compute(step, output)
        except BaseException:
            self._failed.update(dict.fromkeys(step.rows, _STEP_FAILED))
            raise
        return output

    def _update_batch(self, step: StepInput) -> None:
        for row in step.left:
            self._remove(row)
        for request in step.joined:
            self._add(request)
        for row, block_ids in zip(step.grown, step.new_blocks, strict=True):
            if row not in self._failed:
                self.batch.append_blocks(row, block_ids)

    def _remove(self, row: int) -> None:
        self._failed.pop(row, None)
        if self.batch.remove(row):
            self._sampler.remove(row)
            self._pooler.remove(row)
            self._inputs.pop(row, None)
            self._num_prompt_logprobs.pop(row, None)

    def _add(self, request: NewRequest) -> None:
        self.batch.add(request)
        if request.inputs:
            self._take_inputs(request)
        if request.pooling is not None:
            self._pooler.add(request.row, request.pooling)
        if request.sampling is None:
            return
        self._sampler.add(request.row, request.sampling)
        if request.sampling.prompt_logprobs is not None:
            self._num_prompt_logprobs[request.row] = request.sampling.prompt_logprobs

    def _take_inputs(self, request: NewRequest) -> None:
        """Keep what a request brings beside tokens; it fails by itself where that does not fit the model."""
        inputs = {name: torch.from_numpy(value) for name, value in request.inputs.items()}
        try:
            self._model.check_inputs(inputs, len(request.token_ids))
        except ValueError as error:
            self._failed[request.row] = str(error)
        else:
            self._inputs[request.row] = inputs

    def _without_failed(self, step: StepInput, output: StepOutput) -> StepInput:
        failed = self._failed
        output.errors = {row: failed[row] for row in step.rows if row in failed}
        if not output.errors:
            return step
        going = [(row, count) for row, count in zip(step.rows, step.num_tokens, strict=True) if row not in failed]
        rest = StepInput.empty(step.step_id)
        rest.rows, rest.num_tokens = (ints([pair[i] for pair in going]) for i in (0, 1))
        rest.grown, rest.masks, rest.copies = step.grown, step.masks, step.copies
        rest.drafts = None if step.drafts is None else step.drafts.without(failed)
        rest.encode = [item for item in step.encode if item.row not in failed]
        return rest

    def _prepare(self, step: StepInput) -> None:
        """What must have happened before the step's tokens are computed."""
        if step.copies is not None:
            copy_blocks(step.copies, self._kv_caches, self._groups)
        if step.encode:
            run_encoder(self._model, step.encode, self.batch, self._kv_caches, self._layer_groups)

    def _compute(self, step: StepInput, output: StepOutput) -> None:
        drafted = None if step.drafts is None else DraftedStep(step, self.batch)
        rows, counts = (step.rows, step.num_tokens) if drafted is None else (step.rows, drafted.counts)
        input_ids, positions, attention = self._layout.arrange(rows, counts, step.grown)
        if self._takes_inputs:
            attention.row_inputs = [self._inputs.get(row, {}) for row in self._layout.rows.tolist()]
        hidden = self._model.forward(input_ids, positions, self._kv_caches, attention)
        self.batch.num_computed[self._layout.rows] = self._layout.stop
        if self._num_prompt_logprobs:
            self._score_prompts(hidden, output)
        if self._pooler:
            self._pool(hidden, output)
        if drafted is None:
            self._sample(hidden, step, output)
        else:
            self._verify(drafted, hidden, step.masks, output)

    def _sample(self, hidden: torch.Tensor, step: StepInput, output: StepOutput) -> None:
        layout, given = self._layout, step.rows
        rows = layout.rows
        if not layout.all_sample:
            where = np.flatnonzero(layout.sampling)
            if not len(where):
                return
            rows, given = rows[where], ints([given[i] for i in where.tolist()])
        if len(rows) != len(hidden):
            last = layout.query_starts[1:][layout.sampling].astype(np.int64) - 1
            hidden = hidden[to_device(last, self._device)]
        sampled = self._sampler.sample(hidden, rows, step.masks)
        self.batch.accept(rows, sampled.tokens)
        self._report(given, sampled, output)

    def _report(self, rows: array[int], sampled: Sampled, output: StepOutput) -> None:
        tokens = array("i", sampled.tokens.tolist())
        output.logprobs = {rows[i]: scores for i, scores in sampled.logprobs.items()}
        if sampled.errors:
            for i, reason in sampled.errors.items():
                output.errors[rows[i]] = self._failed[rows[i]] = reason
            kept = [i for i in range(len(rows)) if i not in sampled.errors]
            rows, tokens = ints([rows[i] for i in kept]), ints([tokens[i] for i in kept])
        output.rows, output.token_ids = rows, tokens

    def _verify(self, drafted: DraftedStep, hidden: torch.Tensor, masks: Masks | None, output: StepOutput) -> None:
        layout = self._layout
        where = drafted.positions(layout.rows, layout.query_starts, layout.sampling)
        sampled = self._sampler.sample_at(hidden[to_device(where.places, self._device)], where.rows, where.offsets, masks)
        output.logprobs = {int(where.rows[i]): scores for i, scores in sampled.logprobs.items()}
        output.rows, output.token_ids, output.counts, errors = drafted.accept(where, sampled)
        for row, reason in errors.items():
            output.errors[row] = self._failed[row] = reason

    def _pool(self, hidden: torch.Tensor, output: StepOutput) -> None:
        layout = self._layout
        for i in np.flatnonzero(self.batch.pooled[layout.rows]).tolist():
            row = int(layout.rows[i])
            part = to_host(hidden[int(layout.query_starts[i]) : int(layout.query_starts[i + 1])].float())
            pooled = self._pooler.take(row, part, bool(layout.last[i]))
            if pooled is not None:
                self._finish_pooled(row, pooled, output)

    def _finish_pooled(self, row: int, pooled: Pooled, output: StepOutput) -> None:
        result = self._pooling_head.finish(pooled, self._pooler.specs[row])
        if np.isfinite(result).all():
            output.pooled[row] = result
        else:
            output.errors[row] = self._failed[row] = "the model computed numbers that are not finite"

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
            output.prompt_logprobs[row] = score_prompt(
                self._model.compute_logits,
                hidden[start : start + len(targets)],
                to_device(targets.astype(np.int64), self._device),
                k,
                self._vocab_size,
                self._normalized,
            )
