"""The verb of pooling, as an asyncio program sees it: `encode`."""

from __future__ import annotations

import abc
import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from octavo.config import EngineConfig
from octavo.errors import RequestFailedError, RequestTimeoutError
from octavo.frontend.input_processor import InputProcessor, ProcessedInput
from octavo.frontend.io_processing.runner import IOProcessors, is_data
from octavo.frontend.output_processor import OutputProcessor
from octavo.frontend.pooling import pooling_input, supported_tasks, with_tokenization
from octavo.frontend.request_state import RequestState
from octavo.frontend.stats import TokenCounts
from octavo.inputs import PromptType
from octavo.not_served import check_arguments
from octavo.pooling_outputs import PoolingOutput, PoolingRequestOutput
from octavo.pooling_params import PoolingParams

Process = Callable[[], Awaitable[ProcessedInput]]
"""Checks and converts a request."""


class EnginePooling(abc.ABC):
    """What an engine does with a model that pools; the rest is `AsyncLLM`'s."""

    config: EngineConfig
    input_processor: InputProcessor
    io_processors: IOProcessors
    _outputs: OutputProcessor

    @abc.abstractmethod
    async def _submit_processed(self, process: Process, request_id: str, priority: int, arrival_time: float) -> RequestState:
        """Check, count and send a request."""

    @abc.abstractmethod
    def _start_timer(self, state: RequestState, arrival_time: float, timeout: float | None) -> asyncio.TimerHandle | None:
        """End the request when its time is over."""

    @abc.abstractmethod
    def _abort_in_core(self, core_ids: list[str]) -> None:
        """Have the core forget requests."""

    @property
    def supported_pooling_tasks(self) -> tuple[str, ...]:
        """Tasks that `encode` takes; none where the model generates text."""
        return supported_tasks(self.config.model)

    async def encode(
        self,
        prompt: PromptType,
        pooling_params: PoolingParams,
        request_id: str,
        *,
        priority: int = 0,
        timeout: float | None = None,  # noqa: ASYNC109
        counts: TokenCounts | None = None,
        tokenization_kwargs: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> AsyncGenerator[PoolingRequestOutput[PoolingOutput]]:
        """Pool one prompt; yields one output. Closing the generator before (or cancelling who waits) aborts the request.

        Args:
            prompt: text, a pair of texts for a classifier of pairs, token ids, or a dict with either and `multi_modal_data` where the
                model takes arrays; or a `DataPrompt`, whose output is an IO Processor plugin's.
            pooling_params: not changed.
            request_id: see `generate`, as for priority, timeout, counts and others.
            tokenization_kwargs: `truncate_prompt_tokens` and `truncation_side`, in the place of the parameters'.

        Raises:
            ValidationError: prompt or parameters are not allowed.
            RequestFailedError: the engine failed on this request, or it was aborted.
            QueueFullError, RequestTimeoutError, EngineDeadError: see `generate`.
        """
        arrival_time = time.monotonic()
        check_arguments("encode", others)
        if is_data(prompt):
            engine: Any = self
            try:
                async with asyncio.timeout(timeout):
                    made = await self.io_processors.output(engine, prompt, request_id, params=pooling_params, priority=priority)
            except TimeoutError:
                raise RequestTimeoutError(f"the request took more than {timeout:g} s") from None
            yield made
            return
        params = with_tokenization(pooling_params, tokenization_kwargs)
        process = partial(pooling_input, self.input_processor, self.config.model, prompt, params)
        state = await self._submit_processed(process, request_id, priority, arrival_time)
        timer = None
        try:
            timer = self._start_timer(state, arrival_time, timeout)
            while not state.finished:
                await state.collector.wait()
            if state.pooled is None:
                raise RequestFailedError("the request was aborted")
            output = PoolingOutput(state.pooled)
            yield PoolingRequestOutput(request_id, output, state.prompt_token_ids, True, state.num_cached_tokens)
        finally:
            if timer is not None:
                timer.cancel()
            if counts is not None:
                counts.add(len(state.prompt_token_ids), 0)
            self._abort_in_core(self._outputs.abort(state))
