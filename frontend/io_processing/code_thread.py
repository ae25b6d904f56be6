"""A thread that runs one piece of code after the other, and that nobody has to wait for when a piece does not end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
from collections.abc import Callable
from typing import Any

_Job = tuple[Callable[[], Any], concurrent.futures.Future[Any]]


class CodeThread:
    """Unlike a ThreadPoolExecutor's, its thread does not hold up the interpreter's end. No event loop runs in it."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, code: Callable[[], Any]) -> concurrent.futures.Future[Any]:
        """Run `code` when its turn has come."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._jobs.put((code, future))
        return future

    async def run(self, code: Callable[[], Any]) -> Any:
        """Run `code` and wait for it; a cancellation, too, waits for its end, for nothing can end it before."""
        future = asyncio.wrap_future(self.submit(code))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()  # it is heard of here
            raise

    def is_alive(self) -> bool:
        """Whether code runs, or may."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End behind what is there already."""
        self._jobs.put(None)

    def join(self, seconds: float) -> None:
        """Wait so long for its end."""
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            code, future = job
            try:
                future.set_result(code())
            except Exception as error:  # noqa: BLE001  (raised where it is waited for)
                future.set_exception(error)
            except BaseException as error:  # noqa: BLE001  (an exit must end neither this thread nor who waits for it)
                future.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))
            del job, code, future
