"""One HTTP request's work in a pooling engine: all its prompts at once, within a window, results in order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np

from octavo.config import SchedulerConfig
from octavo.errors import QueueFullError, RequestFailedError, RequestTimeoutError, ValidationError
from octavo.frontend import heap
from octavo.frontend.pooling import vector_size
from octavo.frontend.server.pooling.fields import PoolingFields
from octavo.frontend.server.pooling.numbers import Floats
from octavo.frontend.server.pooling.prompts import Inputs
from octavo.frontend.server.record import RequestRecord
from octavo.frontend.server.sampling import check_cache_salt
from octavo.frontend.server.state import ServerState
from octavo.frontend.server.usage import Usage, UsageCounter
from octavo.pooling_outputs import PoolingOutput, PoolingRequestOutput
from octavo.pooling_params import PoolingParams

if TYPE_CHECKING:
    from octavo.frontend.async_llm import AsyncLLM

Pooled = PoolingRequestOutput[PoolingOutput]

_STEPS_AHEAD = 3
"""Steps that a request fills at once: one computed, one scheduled, and the next."""
_MOMENT = 0.02
"""Seconds after which a prompt tries again for which the queue had no room."""
MAX_NUMBERS = 10_000_000
"""Of one answer: 40 MB, and three times that as JSON. 2,048 vectors of 4,096 numbers are less."""
_STARTED_PER_TURN = 64
"""Prompts of one request that are given to the engine before the event loop sees to others (about 4 ms)."""
_NUMBERS_PER_CHARACTER = 5
"""Numbers that are written in the time in which a character of text is tokenized."""
_PROMPT_NAMES = (None, "prompt", "prompt_token_ids")
"""What the engine calls the item at fault; other names are fields of the whole request."""


class PoolingRun:
    """A request to a pooling model, ready to run.

    Attributes:
        id: the id in the answer.
        created: Unix seconds.
        model: the name to answer with.
    """

    def __init__(
        self, state: ServerState, record: RequestRecord, prefix: str, body: PoolingFields, model: str, params: PoolingParams
    ) -> None:
        if body.cache_salt is not None:
            check_cache_salt(body.cache_salt)
        self.id = record.answer_id(prefix, body.request_id)
        self.created = int(time.time())
        self.model = model
        self._state = state
        self._record = record
        self._params = params
        self._priority = body.priority or 0
        self._timeout = state.options.time_limit(body.timeout)

    async def outputs(self, engine: AsyncLLM, inputs: Inputs) -> list[Pooled]:
        """One output a prompt, in order. What goes wrong with one, or leaving early, ends them all.

        Raises:
            ValidationError, RequestFailedError: naming the prompt at fault.
            QueueFullError, EngineDeadError: as `AsyncLLM.encode`.
            RequestTimeoutError: they took too long.
            ApiError: 503, the server shuts down.
        """
        unique = f"{self.id}-{uuid4().hex[:8]}"
        ids = [f"{unique}-{index}" for index in range(len(inputs.prompts))]
        items = _Items(engine, self, inputs, ids)
        with self._state.active(ids):
            try:
                async with asyncio.timeout(self._timeout):
                    return await items.run(window(engine.config.scheduler, inputs.num_tokens, len(ids)))
            except TimeoutError:
                raise RequestTimeoutError(f"the request took more than {self._timeout:g} s") from None

    async def arrays(self, engine: AsyncLLM, inputs: Inputs) -> tuple[list[Floats], Usage]:
        """The numbers of each prompt's output, and the tokens of all. The prompts are gone then.

        Raises:
            ValidationError: they are more than an answer may hold.
            RequestFailedError: an output holds numbers that are not finite, which JSON cannot say.
            OctavoError: as `outputs`.
        """
        check_size(engine, self._params, inputs)
        outputs = await self.outputs(engine, inputs)
        usage = self.usage(outputs)
        size = usage.prompt_tokens + work_of(output.outputs.data for output in outputs)
        return await engine.input_processor.texts.run(size, _taken, outputs, inputs), usage

    async def one(self, engine: AsyncLLM, inputs: Inputs, index: int, request_id: str) -> Pooled:
        """The output of one prompt."""
        stream = engine.encode(
            inputs.prompts[index], self._params, request_id, priority=self._priority, counts=self._record.counts
        )
        try:
            async with aclosing(stream):
                return await anext(stream)
        except (ValidationError, RequestFailedError) as error:
            # What is aborted at the server's end has not failed by itself.
            self._state.check_accepting()
            raise _naming(error, inputs.names[index]) from error

    def usage(self, outputs: Iterable[Pooled]) -> Usage:
        """Tokens of all prompts."""
        counter = UsageCounter(self._state.options.enable_prompt_tokens_details)
        for output in outputs:
            counter.prompt_tokens += len(output.prompt_token_ids)
            counter.cached_tokens += output.num_cached_tokens
        return counter.usage()


def window(limits: SchedulerConfig, num_tokens: int, num_prompts: int) -> int:
    """Prompts of one request that are in the engine at once: what fills the steps that are on their way, and no more than the queue
    has room for.

    The rest of a large batch waits here, where others' requests go before it: they wait for three steps, not for the batch.

    Args:
        limits: of a step.
        num_tokens: of all prompts of the request.
        num_prompts: how many these are.
    """
    waiting = limits.max_num_seqs
    if limits.max_num_queued_reqs:
        waiting = min(waiting, max(1, limits.max_num_queued_reqs // 2))
    filling = _STEPS_AHEAD * limits.max_num_batched_tokens * num_prompts // max(1, num_tokens)
    return max(_STEPS_AHEAD, min(limits.max_num_seqs + waiting, filling))


def check_size(engine: AsyncLLM, params: PoolingParams, inputs: Inputs) -> None:
    """Refuse, before it is computed, an answer of more numbers than a server should hold for one request.

    Raises:
        ValidationError: naming the field of the inputs.
    """
    pooling = engine.config.model.pooling
    if pooling is not None and pooling.task == "classify":
        width = pooling.num_labels
    else:
        width = params.dimensions or vector_size(engine.config.model)
    per_token = params.task is not None and params.task.startswith("token_")
    rows = inputs.num_tokens if per_token else len(inputs.prompts)
    if rows * width > MAX_NUMBERS:
        field = inputs.names[0].partition("[")[0]
        message = (
            f"the answer would hold {rows} times {width} numbers, and may hold {MAX_NUMBERS}; send less of {field} at once."
        )
        raise ValidationError(message, parameter=field, value=rows)


def work_of(arrays: Iterable[Floats]) -> int:
    """Characters' worth of work that going over the arrays is, for `TokenizerPool.run`."""
    return sum(array.size for array in arrays) // _NUMBERS_PER_CHARACTER


def _taken(outputs: list[Pooled], inputs: Inputs) -> list[Floats]:
    """The numbers of the outputs, of which nothing else is kept."""
    arrays = [np.asarray(output.outputs.data, dtype=np.float32) for output in outputs]
    for name, array in zip(inputs.names, arrays, strict=True):
        if not np.isfinite(array).all():
            raise RequestFailedError(f"{name}: the model's output holds numbers that are not finite")
    heap.let_go(outputs, inputs.prompts)
    return arrays


class _Items:
    """The prompts of a request on their way through the engine."""

    def __init__(self, engine: AsyncLLM, run: PoolingRun, inputs: Inputs, ids: list[str]) -> None:
        self._engine, self._run, self._inputs, self._ids = engine, run, inputs, ids
        self._left = deque(range(len(ids)))
        self._results: dict[int, Pooled] = {}
        self._num_running = 0
        self._refused: deque[asyncio.Future[None]] = deque()

    async def run(self, width: int) -> list[Pooled]:
        """All results; at most `width` prompts are in the engine at once."""
        workers: list[asyncio.Task[None]] = []
        try:
            for number in range(min(width, len(self._ids))):
                workers.append(asyncio.create_task(self._work()))
                if number % _STARTED_PER_TURN == _STARTED_PER_TURN - 1:
                    await asyncio.sleep(0)
            done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            for worker in done:
                worker.result()
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return [self._results[index] for index in range(len(self._ids))]

    async def _work(self) -> None:
        while self._left:
            index = self._left.popleft()
            self._num_running += 1
            try:
                self._results[index] = await self._run.one(self._engine, self._inputs, index, self._ids[index])
            except QueueFullError:
                self._num_running -= 1
                if not self._num_running and not self._results:
                    raise
                # The request as a whole was let in, so this prompt goes when there is room again.
                self._left.appendleft(index)
                await self._room()
            else:
                self._num_running -= 1
                self._wake(1)
        # Nothing is left for those who wait for room.
        self._wake(len(self._refused))

    async def _room(self) -> None:
        """Wait until another prompt of the request has gone; a moment, where none is in the engine."""
        if not self._num_running:
            await asyncio.sleep(_MOMENT)
            return
        waiter = asyncio.get_running_loop().create_future()
        self._refused.append(waiter)
        await waiter

    def _wake(self, number: int) -> None:
        for waiter in [self._refused.popleft() for _ in range(min(number, len(self._refused)))]:
            if not waiter.done():
                waiter.set_result(None)


def _naming(error: ValidationError | RequestFailedError, name: str) -> Exception:
    """The error, as one of the prompt that errors call `name`."""
    if not isinstance(error, ValidationError):
        return type(error)(f"{name}: {error}")
    if error.parameter not in _PROMPT_NAMES:
        return error
    return ValidationError(f"{name}: {error}", parameter=name, value=error.value, code=error.code)
