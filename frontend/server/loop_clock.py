"""How well the event loop keeps time: a timer that notes how late it comes, and what its thread computed meanwhile.

While one callback runs, every client waits. Lateness in wall time shows that whatever the reason, a busy machine included;
the thread's processor time since the tick before shows whether the loop's own work is the reason.
"""

from __future__ import annotations

import asyncio
import time

from octavo.frontend.metrics import PrometheusStats

INTERVAL = 0.025
"""Seconds between two ticks: a turn of the loop that is longer than this one is measured whole, and never more than this much
of other turns with it."""


class LoopClock:
    """Ticks on the loop it was started on, until it is stopped; 40 short callbacks a second."""

    def __init__(self, metrics: PrometheusStats) -> None:
        self._metrics = metrics
        self._handle: asyncio.TimerHandle | None = None
        self._due = self._used = 0.0

    def start(self) -> None:
        """Begin to tick on the running loop; what came before does not count."""
        self._loop = asyncio.get_running_loop()
        self._arm()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self) -> None:
        self._due = time.monotonic() + INTERVAL
        self._used = time.thread_time()
        self._handle = self._loop.call_later(INTERVAL, self._tick)

    def _tick(self) -> None:
        self._metrics.record_loop(max(0.0, time.monotonic() - self._due), time.thread_time() - self._used)
        self._arm()
