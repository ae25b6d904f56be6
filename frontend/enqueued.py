"""Batches that run while the program does something else, and the wait for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from octavo.frontend.async_llm import AsyncLLM
from octavo.frontend.batch import Job, run_batch
from octavo.frontend.loop_thread import LoopThread
from octavo.outputs import RequestOutput


class EnqueuedBatches:
    """What `LLM.enqueue` has started since the last `wait_for_completion`."""

    def __init__(self) -> None:
        self.num_requests = 0
        self._futures: list[Future[list[RequestOutput]]] = []
        self._finished: list[RequestOutput] = []
        self._on_finished: Callable[[RequestOutput], None] = self._finished.append

    def add(self, engine: AsyncLLM, jobs: Sequence[Job], thread: LoopThread) -> None:
        """Start a batch."""
        self.num_requests += len(jobs)
        self._futures.append(thread.start(run_batch(engine, jobs, "raise", self._tell)))

    async def wait(self, on_finished: Callable[[RequestOutput], None]) -> list[RequestOutput]:
        """The outputs of all batches, in the order of their start; runs on the engine's event loop.

        Raises:
            OctavoError: the first failure, in that order; the other batches are aborted.
        """
        for output in self._finished:
            on_finished(output)
        self._on_finished = on_finished
        results: list[RequestOutput] = []
        try:
            for future in self._futures:
                outputs: list[RequestOutput] = await asyncio.wrap_future(future)
                results += outputs
        finally:
            for future in self._futures:
                future.cancel()
        return results

    def _tell(self, output: RequestOutput) -> None:
        self._on_finished(output)
