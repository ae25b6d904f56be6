"""A batch of prompts through an AsyncLLM: results in input order, one prompt's failure its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from octavo.errors import OctavoError
from octavo.frontend.async_llm import AsyncLLM
from octavo.inputs import PromptType
from octavo.outputs import RequestOutput
from octavo.params import SamplingParams
from octavo.pooling_outputs import PoolingOutput, PoolingRequestOutput
from octavo.pooling_params import PoolingParams

OnError = Literal["raise", "return"]
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Work(Protocol[T_co]):
    """One prompt of a batch.

    Attributes:
        priority: lower goes first, with scheduling_policy "priority".
    """

    priority: int

    async def run(self, engine: AsyncLLM) -> T_co:
        """Its output. Raises: OctavoError."""

    def failed(self, error: OctavoError) -> T_co:
        """An output that holds the error."""


@dataclass(slots=True)
class Job:
    """One prompt to go on with.

    Attributes:
        prompt: the prompt, or what makes it when its turn comes (a conversation to render).
    """

    prompt: PromptType | Callable[[], Awaitable[PromptType]]
    params: SamplingParams
    request_id: str
    priority: int = 0

    async def run(self, engine: AsyncLLM) -> RequestOutput:
        """See `Work.run`."""
        prompt = await self.prompt() if callable(self.prompt) else self.prompt
        outputs = [o async for o in engine.generate(prompt, self.params, self.request_id, priority=self.priority)]
        return outputs[-1]

    def failed(self, error: OctavoError) -> RequestOutput:
        """See `Work.failed`."""
        prompt, ids = (None, []) if callable(self.prompt) else _shown_prompt(self.prompt)
        return RequestOutput(self.request_id, prompt, ids, [], finished=True, error=error)


@dataclass(slots=True)
class PoolingJob:
    """One prompt to pool; its error is the batch's."""

    prompt: PromptType
    params: PoolingParams
    request_id: str
    priority: int = 0

    async def run(self, engine: AsyncLLM) -> PoolingRequestOutput[PoolingOutput]:
        """See `Work.run`."""
        outputs = [o async for o in engine.encode(self.prompt, self.params, self.request_id, priority=self.priority)]
        return outputs[-1]

    def failed(self, error: OctavoError) -> PoolingRequestOutput[PoolingOutput]:
        """Raises: OctavoError: the error."""
        raise error


async def run_batch(engine: AsyncLLM, jobs: Sequence[Work[T]], on_error: OnError, on_finished: Callable[[T], None]) -> list[T]:
    """Do every job; the engine gets them in order, a few more at a time than it can run.

    Cancelling it aborts what is unfinished.

    Args:
        engine: where.
        jobs: what.
        on_error: "raise" ends the batch with the first error; "return" puts it into that job's output.
        on_finished: called for each output as it comes.

    Raises:
        OctavoError: with on_error="raise".
    """
    results: dict[int, T] = {}
    turns = iter(_in_order(jobs, engine))

    async def work() -> None:
        for index in turns:
            results[index] = output = await _run(engine, jobs[index], on_error)
            on_finished(output)

    workers = [asyncio.create_task(work()) for _ in range(min(len(jobs), 2 * engine.config.scheduler.max_num_seqs))]
    try:
        await asyncio.gather(*workers)
    finally:
        # The first error or a cancellation: the others end too, and have told the core when this returns.
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return [results[index] for index in range(len(jobs))]


def _in_order(jobs: Sequence[Work[T]], engine: AsyncLLM) -> list[int]:
    """The scheduler sees only a window of the batch, so the most urgent must come first."""
    order = range(len(jobs))
    if engine.config.scheduler.policy == "priority":
        return sorted(order, key=lambda index: jobs[index].priority)
    return list(order)


async def _run(engine: AsyncLLM, job: Work[T], on_error: OnError) -> T:
    try:
        return await job.run(engine)
    except OctavoError as error:
        if on_error == "raise":
            raise
        return job.failed(error)


def _shown_prompt(prompt: PromptType) -> tuple[str | None, list[int]]:
    """Text and ids to show beside an error, whatever the caller gave."""
    if isinstance(prompt, str):
        return prompt, []
    if isinstance(prompt, dict):
        text = prompt.get("prompt")
        return (text if isinstance(text, str) else None), list(prompt.get("prompt_token_ids") or [])  # type: ignore[call-overload]
    return None, list(prompt)
