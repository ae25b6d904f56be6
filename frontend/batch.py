"""A batch of prompts through an AsyncLLM: results in input order, one prompt's failure its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from octavo.errors import OctavoError
from octavo.frontend.async_llm import AsyncLLM
from octavo.inputs import PromptType
from octavo.outputs import RequestOutput
from octavo.params import SamplingParams

OnError = Literal["raise", "return"]
OnFinished = Callable[[RequestOutput], None]


@dataclass(slots=True)
class Job:
    """One prompt of the batch.

    Attributes:
        prompt: the prompt, or what makes it when its turn comes (a conversation to render).
        priority: lower goes first, with scheduling_policy "priority".
    """

    prompt: PromptType | Callable[[], Awaitable[PromptType]]
    params: SamplingParams
    request_id: str
    priority: int = 0


async def run_batch(engine: AsyncLLM, jobs: Sequence[Job], on_error: OnError, on_finished: OnFinished) -> list[RequestOutput]:
    """Generate for every job; the engine gets them in order, a few more at a time than it can run.

    Cancelling it aborts what is unfinished.

    Args:
        engine: where.
        jobs: what.
        on_error: "raise" ends the batch with the first error; "return" puts it into that job's output.
        on_finished: called for each output as it comes.

    Raises:
        OctavoError: with on_error="raise".
    """
    results: list[RequestOutput | None] = [None] * len(jobs)
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
    return [result for result in results if result is not None]


def _in_order(jobs: Sequence[Job], engine: AsyncLLM) -> list[int]:
    """The scheduler sees only a window of the batch, so the most urgent must come first."""
    order = range(len(jobs))
    if engine.config.scheduler.policy == "priority":
        return sorted(order, key=lambda index: jobs[index].priority)
    return list(order)


async def _run(engine: AsyncLLM, job: Job, on_error: OnError) -> RequestOutput:
    try:
        prompt = await job.prompt() if callable(job.prompt) else job.prompt
        outputs = [o async for o in engine.generate(prompt, job.params, job.request_id, priority=job.priority)]
        return outputs[-1]
    except OctavoError as error:
        if on_error == "raise":
            raise
        return _failed(job, error)


def _failed(job: Job, error: OctavoError) -> RequestOutput:
    prompt, ids = (None, []) if callable(job.prompt) else _shown_prompt(job.prompt)
    return RequestOutput(job.request_id, prompt, ids, [], finished=True, error=error)


def _shown_prompt(prompt: PromptType) -> tuple[str | None, list[int]]:
    """Text and ids to show beside an error, whatever the caller gave."""
    if isinstance(prompt, str):
        return prompt, []
    if isinstance(prompt, dict):
        text = prompt.get("prompt")
        return (text if isinstance(text, str) else None), list(prompt.get("prompt_token_ids") or [])  # type: ignore[call-overload]
    return None, list(prompt)
