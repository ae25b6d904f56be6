"""An event loop in a thread of its own, for a synchronous face on asynchronous code."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

from octavo.owner import Owner

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for threads that have no event loop, or have one that must not block (notebooks)."""

    def __init__(self, name: str) -> None:
        self._owner = Owner()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine without waiting for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call(self, coroutine: Coroutine[Any, Any, T], while_waiting: Callable[[], None] | None = None) -> T:
        """Run a coroutine and wait for it.

        An exception in the waiting thread, Ctrl-C above all, cancels the coroutine and waits for its clean-up.

        Args:
            coroutine: what to run.
            while_waiting: called once, in the waiting thread, when the coroutine has run for a moment.

        Raises:
            EngineDeadError: in a forked child, where the thread is not.
            Exception: what the coroutine raises.
        """
        if self._owner.is_elsewhere:
            coroutine.close()
            self._owner.check()
        done = threading.Event()

        async def run() -> T:
            try:
                return await coroutine
            finally:
                done.set()

        future = asyncio.run_coroutine_threadsafe(run(), self._loop)
        try:
            if while_waiting is not None:
                concurrent.futures.wait([future], _A_MOMENT)
                if not future.done():
                    while_waiting()
            return future.result()
        except BaseException:
            if not done.is_set():
                future.cancel()
                done.wait(_CLEAN_UP_SECONDS)
            raise

    def close(self) -> None:
        """Stop the loop and join the thread; coroutines that still run are cancelled. Idempotent.

        In a forked child nothing happens: what the loop watches is its parent's.
        """
        if self._owner.is_elsewhere or self._loop.is_closed():
            return
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())


_CLEAN_UP_SECONDS = 10.0
_A_MOMENT = 0.5
