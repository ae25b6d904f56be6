"""Is the core still getting on? It is asked again and again, and answers between two steps."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from octavo import envs
from octavo.errors import OctavoError

logger = logging.getLogger(__name__)

_LONGEST_INTERVAL = 5.0
_SHARE_OF_TIMEOUT = 0.05


class CoreWatch:
    """Keeps one ping on its way to the core.

    An idle core answers at once and a busy one when a step has ended, so a ping that waits tells how long no step has ended:
    whatever the step is, and whether anybody waits for it or has given up. Nothing but the answer resets that clock.

    Args:
        ping: asks the core, however long that takes; raises EngineDeadError when there is none.
    """

    def __init__(self, ping: Callable[[], Awaitable[Any]]) -> None:
        self._ping = ping
        self._task: asyncio.Task[None] | None = None
        self.silence = 0.0
        """Seconds for which a ping has been waiting for its answer. Those in which this process did not run do not count."""

    def start(self) -> None:
        """Begin to ask, on the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="octavo-core-watch")

    def stop(self) -> None:
        """Ask no more; idempotent."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_interval())
            ping = asyncio.ensure_future(self._ping())
            try:
                await self._count_until_done(ping)
                ping.result()
            except OctavoError as error:
                # Of a dead core others have heard; one that refuses has answered.
                logger.debug("the engine core did not answer a ping: %s", error)
            except Exception:
                logger.exception("the engine core could not be asked; it will be again")
            finally:
                ping.cancel()
                self.silence = 0.0

    async def _count_until_done(self, ping: asyncio.Future[Any]) -> None:
        seen = time.monotonic()
        while True:
            interval = _interval()
            done, _ = await asyncio.wait({ping}, timeout=interval)
            if done:
                return
            now = time.monotonic()
            # More than that is time in which this process was stopped, or had no turn: the answer may be there already.
            self.silence += min(now - seen, 2 * interval)
            seen = now


def _interval() -> float:
    """Seconds between two looks: often enough to tell the step timeout, too seldom to cost anything."""
    return min(_LONGEST_INTERVAL, max(0.001, envs.STEP_TIMEOUT * _SHARE_OF_TIMEOUT))
