"""An engine without a core: says a fixed text, as fast as it is asked, so that the server alone is tested."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from octavo.config import EngineArgs
from octavo.errors import EngineDeadError, ValidationError
from octavo.frontend.chat_template import make_chat_renderer
from octavo.frontend.collector import OutputSink
from octavo.frontend.input_processor import InputProcessor
from octavo.frontend.stats import TokenCounts
from octavo.frontend.tokenizer import load_tokenizer
from octavo.outputs import CompletionOutput, Logprob, RequestMetrics, RequestOutput
from octavo.params import RequestOutputKind, SamplingParams
from octavo.pooling_outputs import PoolingOutput, PoolingRequestOutput
from octavo.pooling_params import PoolingParams

TEXT = "one two three four five six seven eight nine ten"


def pooled_of_ids(ids: list[int], params: PoolingParams) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A vector of 16 numbers, or one a token, or probabilities of three classes; equal for equal ids."""
    rows = {"embed": 1, "classify": 1}.get(params.task or "", len(ids))
    width = 3 if params.task in ("classify", "token_classify") else params.dimensions or 16
    numbers = np.random.default_rng(ids).standard_normal((rows, width)).astype(np.float32)
    return numbers[0] if params.task in ("embed", "classify") else numbers


class FakeEngine:
    """Has what the server uses of AsyncLLM.

    Attributes:
        text: what it says.
        delay: seconds a token.
        silence, queue_full: what `AsyncLLM` has under these names.
        fail_with: raised by `generate` after `fail_after` tokens.
        num_said: tokens of all requests.
        room_error: raised by `check_room`.
        aborted: ids of generators that were closed early.
        supported_pooling_tasks: none = it generates.
        most_encoding: prompts that were being encoded at once, at most.
        pooled: token ids and parameters -> what `encode` answers.
    """

    def __init__(self, model: Path) -> None:
        self.config = EngineArgs(model=str(model), served_model_name=["tiny", "also-tiny"]).create_engine_config()
        self.tokenizer = load_tokenizer(self.config.model)
        self.max_model_len = self.config.model.max_model_len
        threads = ThreadPoolExecutor(1)
        self.input_processor = InputProcessor(self.config, self.tokenizer, self.max_model_len)
        self.chat_renderer = make_chat_renderer(self.tokenizer, None, threads)
        self.render_chat = self.chat_renderer.render
        self.errored = False
        self.queue_full = False
        self.silence = 0.0
        self.restarting = False
        self.text = TEXT
        self.delay = 0.0
        self.fail_with: Exception | None = None
        self.fail_after = 0
        self.num_said = 0
        self.room_error: Exception | None = None
        self.aborted: list[str] = []
        self.calls: list[SimpleNamespace] = []
        self.supported_pooling_tasks: tuple[str, ...] = ()
        self.num_encoding = self.most_encoding = 0
        self.pooled = pooled_of_ids

    def check_room(self) -> None:
        if self.room_error is not None:
            raise self.room_error

    async def check_health(self) -> None:
        if self.errored:
            raise EngineDeadError

    async def abort(self, request_ids: list[str]) -> None:
        self.aborted += request_ids

    async def generate(
        self,
        prompt: Any,
        params: SamplingParams,
        request_id: str,
        *,
        priority: int = 0,
        timeout: float | None = None,  # noqa: ASYNC109
        sink: OutputSink | None = None,
        counts: TokenCounts | None = None,
    ) -> AsyncGenerator[RequestOutput]:
        self.calls.append(SimpleNamespace(prompt=prompt, params=params, id=request_id, priority=priority, timeout=timeout))
        ids = prompt.get("prompt_token_ids") or self.tokenizer.encode(prompt["prompt"])
        if not ids:
            raise ValidationError("The prompt must not be empty.", parameter="prompt")
        finished = False
        metrics = RequestMetrics(arrival_time=time.monotonic(), queued_ts=1.0, scheduled_ts=1.5)
        try:
            async for output in self._outputs(ids, params, request_id, metrics):
                finished = output.finished
                if sink is not None and not finished and sink.ready():
                    sink.put(output)
                else:
                    yield output
        finally:
            if counts is not None:
                counts.add(len(ids), metrics.num_generation_tokens)
            if not finished:
                self.aborted.append(request_id)

    async def encode(
        self,
        prompt: Any,
        pooling_params: PoolingParams,
        request_id: str,
        *,
        priority: int = 0,
        counts: TokenCounts | None = None,
    ) -> AsyncGenerator[PoolingRequestOutput[PoolingOutput]]:
        """What `pooled` makes of the token ids and parameters; fails with `fail_with` at the item `fail_after`."""
        self.calls.append(SimpleNamespace(prompt=prompt, params=pooling_params, id=request_id, priority=priority))
        ids = prompt["prompt_token_ids"]
        self.num_encoding += 1
        self.most_encoding = max(self.most_encoding, self.num_encoding)
        finished = False
        try:
            await asyncio.sleep(self.delay)
            if self.fail_with is not None and request_id.endswith(f"-{self.fail_after}"):
                raise self.fail_with
            finished = True
            yield PoolingRequestOutput(request_id, PoolingOutput(self.pooled(ids, pooling_params)), ids)
        finally:
            self.num_encoding -= 1
            if counts is not None:
                counts.add(len(ids), 0)
            if not finished:
                self.aborted.append(request_id)

    async def _outputs(
        self, prompt_ids: list[int], params: SamplingParams, request_id: str, metrics: RequestMetrics
    ) -> AsyncGenerator[RequestOutput]:
        said = self.tokenizer.encode(self.text)[: params.max_tokens]
        delta = params.output_kind is RequestOutputKind.DELTA
        for number, token in enumerate(said):
            if self.fail_with is not None and number == self.fail_after:
                raise self.fail_with
            if self.delay or number % 16 == 0:
                await asyncio.sleep(self.delay)
            last = number == len(said) - 1
            self.num_said += 1
            metrics.num_generation_tokens += params.n
            if not delta and not last:
                continue
            tokens = [token] if delta else said
            metrics.first_token_ts = metrics.first_token_ts or time.monotonic()
            metrics.last_token_ts = time.monotonic()
            outputs = [self._completion(index, tokens, params, last) for index in range(params.n)]
            scores = (
                self._prompt_logprobs(prompt_ids) if params.prompt_logprobs is not None and (number == 0 or not delta) else None
            )
            yield RequestOutput(request_id, None, prompt_ids, outputs, last, scores, num_cached_tokens=3, metrics=metrics)

    def _completion(self, index: int, tokens: list[int], params: SamplingParams, last: bool) -> CompletionOutput:
        text = "".join(map(self.tokenizer.token_text, tokens))
        logprobs = None if params.logprobs is None else [self._position(t, params.logprobs) for t in tokens]
        if logprobs is not None and params.logprob_token_ids:
            logprobs = [self._listed(t, params.logprob_token_ids) for t in tokens]
        total = None if params.logprobs is None else -10.0 + index
        return CompletionOutput(index, text, tokens, total, logprobs, "length" if last else None)

    def _position(self, token: int, count: int) -> dict[int, Logprob]:
        """The token, and `count` rivals of which the last is impossible."""
        count = 2 if count < 0 else count
        position = {token: Logprob(-1.5, 2, self.tokenizer.token_text(token))}
        for rank in range(count):
            other = (token + rank + 1) % 500
            logprob = -0.5 - rank if rank < count - 1 else float("-inf")
            position[other] = Logprob(logprob, rank + 1, self.tokenizer.token_text(other))
        return position

    def _listed(self, token: int, listed: list[int]) -> dict[int, Logprob]:
        """The token, and the ids asked for, each less likely than the one before."""
        rivals = {i: Logprob(-2.0 - n, None, self.tokenizer.token_text(i)) for n, i in enumerate(listed)}
        return {token: Logprob(-1.5, 2, self.tokenizer.token_text(token)), **rivals}

    def _prompt_logprobs(self, ids: list[int]) -> list[dict[int, Logprob] | None]:
        return [None, *(self._position(token, 0) for token in ids[1:])]
