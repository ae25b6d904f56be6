"""A request's outputs as a program takes them one by one, instead of from a generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from octavo.frontend.request_state import RequestState
from octavo.outputs import RequestOutput


class OutputStream:
    """What `AsyncLLM.add_request` gives; used on the engine's event loop. Outputs that are not taken are merged.

    Attributes:
        request_id: the caller's.
        finished: the last output has been taken, or the stream was closed.

    Args:
        state: the request's.
        abort: ends the request in the engine.
    """

    def __init__(self, state: RequestState, abort: Callable[[], None]) -> None:
        self.request_id = state.request_id
        self.finished = False
        self._state = state
        self._abort = abort

    async def get(self) -> RequestOutput:
        """Wait for the next output.

        Raises:
            RequestFailedError, EngineDeadError: as `AsyncLLM.generate`.
            StopAsyncIteration: the last one has been taken.
        """
        if self.finished:
            raise StopAsyncIteration
        await self._state.collector.wait()
        return self._take()

    def get_nowait(self) -> RequestOutput | None:
        """What has gathered since the last time; None when there is nothing new."""
        if self.finished or not self._state.collector.poll():
            return None
        return self._take()

    def close(self) -> None:
        """Abort the request if it runs; may be called again."""
        if not self.finished:
            self.finished = True
            self._abort()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RequestOutput:
        return await self.get()

    def _take(self) -> RequestOutput:
        output = self._state.take()
        self.finished = output.finished
        return output
