"""Starts a core in the place of one that died, as often as is allowed."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque

from octavo import envs
from octavo.core.client import CoreClient, CoreLostError
from octavo.core.death import Death, OomKills, judge
from octavo.core.waiting_core import WaitingCore
from octavo.errors import EngineDeadError, EngineStartError
from octavo.wire.messages import Ready

logger = logging.getLogger(__name__)

WINDOW = 600.0
"""Seconds in which `max_restarts` deaths are forgiven."""
_BURIAL_TIMEOUT = 1.0
"""Seconds that a core which has failed may take to end before it is killed: requests wait for the next one."""


class RestartLimit:
    """How many cores may end by themselves (a crash, no memory, an exit) within WINDOW seconds.

    Kills from outside do not count: whoever sends them knows what for, and no request brings them about.
    """

    def __init__(self, max_restarts: int) -> None:
        self._max = max_restarts
        self._deaths: deque[float] = deque()

    def allows(self, death: Death, now: float) -> bool:
        """Whether another core may be started after this death; takes note of it."""
        if not death.from_outside:
            self._deaths.append(now)
        while self._deaths and self._deaths[0] < now - WINDOW:
            self._deaths.popleft()
        return len(self._deaths) <= self._max


class CoreSupervisor:
    """Holds the client of the one core there is. Used from its event loop, but for `close`.

    A dead core is first `bury`ed, then replaced by `start`. Each has a client and sockets of its own, so that nothing a
    dead one may have sent can be mistaken for the next one's.

    Args:
        client: of the first core, which is ready.
        max_restarts: deaths of a core by itself within WINDOW that are made good; 0 = none, not even kills.
        spare: have the next core's process wait with its imports done.

    Attributes:
        client: of the core that runs, or ran last.
    """

    def __init__(self, client: CoreClient, max_restarts: int, spare: bool = False) -> None:
        self.client = client
        self._may_restart = client.owned and max_restarts > 0
        self._wants_spare = spare and self._may_restart
        self._spare: WaitingCore | None = None
        self._max_restarts = max_restarts
        self._limit = RestartLimit(max_restarts)
        self._oom_kills = OomKills()
        self._lock = threading.Lock()
        self._closed = False
        self._make_spare()

    @property
    def may_restart(self) -> bool:
        """Whether a dead core has a successor, as far as one can say before it dies."""
        return self._may_restart and not self._closed

    async def bury(self) -> Death:
        """Give back what the dead core held, and say what it died of.

        Raises:
            EngineDeadError: no other may be started.
        """
        client = self.client
        if not self.may_restart:
            raise EngineDeadError(client.death)
        exit_code = client.exit_code
        await asyncio.to_thread(client.close, _BURIAL_TIMEOUT)
        death = judge(client.death, exit_code, client.failure, self._oom_kills)
        if not self._limit.allows(death, time.monotonic()):
            times = f"{self._max_restarts} times in {WINDOW / 60:g} minutes"
            raise EngineDeadError(f"{death.reason}, after it has been started again {times} (--max-core-restarts)")
        return death

    async def start(self) -> Ready:
        """Start another core; returns when it serves. One that is killed meanwhile is replaced in its turn.

        Raises:
            EngineDeadError: it cannot be; the message is the root cause.
        """
        deadline = time.monotonic() + envs.START_TIMEOUT
        while True:
            try:
                await asyncio.to_thread(self._spawn)
                ready = await self.client.start_up(max(0.0, deadline - time.monotonic()))
                await asyncio.to_thread(self._make_spare)
                return ready
            except CoreLostError:
                death = await self.bury()
                logger.warning("%s while it started; starting another", death.reason)
            except (EngineStartError, OSError) as error:
                await asyncio.to_thread(self.client.close)
                raise EngineDeadError(f"the engine core could not be started again: {error}") from error

    def close(self, timeout: float = 5.0) -> None:
        """Stop the core there is; none is started any more. Idempotent, from any thread."""
        with self._lock:
            self._closed = True
            spare, self._spare = self._spare, None
        self.client.close(timeout)
        if spare is not None:
            spare.close()

    def _spawn(self) -> None:
        with self._lock:
            if self._closed:
                raise EngineDeadError("the engine has been shut down")
            client = self.client.successor()
            spare, self._spare = self._spare, None
            client.spawn(spare)
            self.client = client  # only now: others use it at once

    def _make_spare(self) -> None:
        with self._lock:
            if not self._wants_spare or self._closed:
                return
            try:
                self._spare = WaitingCore(self.client.command)
            except OSError as error:
                logger.warning("there is no spare core: %s", error)
