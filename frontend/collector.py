"""The mailbox of one request: wakes the one who waits for its outputs, or hands them on without waking anybody.

It carries no outputs: whoever wakes takes what has gathered in the request's state since the last time, so a slow
consumer gets one larger output instead of a queue of small ones, and pays for it only when it looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from octavo.outputs import RequestOutput


class OutputSink(Protocol):
    """A consumer that takes outputs when they are made, on the event loop, instead of being woken for each."""

    def ready(self) -> bool:
        """Whether `put` may be called now. While it may not, outputs gather, and the waiting consumer is woken."""

    def put(self, output: RequestOutput) -> None:
        """Take an output; must be quick and cannot wait."""


class Collector:
    """Used on one event loop, by one consumer."""

    # A bare future instead of an asyncio.Event: this is done for every token of every stream.
    __slots__ = ("_error", "_offer", "_ready", "_waiter")

    def __init__(self) -> None:
        self._ready = False
        self._waiter: asyncio.Future[None] | None = None
        self._offer: Callable[[], bool] | None = None
        self._error: Exception | None = None

    def notify(self) -> None:
        """There is something to take."""
        if self._offer is not None and self._error is None:
            try:
                if self._offer():
                    return
            except Exception as error:  # noqa: BLE001 - raised where the consumer waits
                self._error = error
        self._ready = True
        waiter = self._waiter
        if waiter is not None:
            self._waiter = self._offer = None
            if not waiter.done():
                waiter.set_result(None)

    def fail(self, error: Exception) -> None:
        """Every wait from now on raises this; the first error stays."""
        if self._error is None:
            self._error = error
        self.notify()

    def poll(self) -> bool:
        """Whether there is something to take; it counts as taken.

        Raises:
            Exception: the one given to `fail`.
        """
        if self._error is not None:
            raise self._error
        ready, self._ready = self._ready, False
        return ready

    async def wait(self, offer: Callable[[], bool] | None = None) -> None:
        """Return when there is something to take.

        Args:
            offer: tried before the consumer is woken: True = what there was has been taken, the wait goes on.

        Raises:
            Exception: the one given to `fail`, or raised by `offer`.
        """
        if not self._ready:
            self._waiter, self._offer = asyncio.get_running_loop().create_future(), offer
            try:
                await self._waiter
            finally:
                self._offer = None
        if self._error is not None:
            raise self._error
        self._ready = False
