"""The mailbox of one request: wakes the one who waits for its outputs.

It carries no outputs: whoever wakes takes what has gathered in the request's state since the last time, so a slow
consumer gets one larger output instead of a queue of small ones, and pays for it only when it looks.
"""

from __future__ import annotations

import asyncio


class Collector:
    """Used on one event loop, by one consumer."""

    # A bare future instead of an asyncio.Event: this is done for every token of every stream.
    __slots__ = ("_error", "_ready", "_waiter")

    def __init__(self) -> None:
        self._ready = False
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None

    def notify(self) -> None:
        """There is something to take."""
        self._ready = True
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def fail(self, error: Exception) -> None:
        """Every wait from now on raises this; the first error stays."""
        if self._error is None:
            self._error = error
        self.notify()

    async def wait(self) -> None:
        """Return when there is something to take.

        Raises:
            Exception: the one given to `fail`.
        """
        if not self._ready:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._error is not None:
            raise self._error
        self._ready = False
