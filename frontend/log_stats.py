"""A line of statistics in the log now and then, when something happened."""

from __future__ import annotations

import logging
import time

from octavo import envs
from octavo.frontend.stats import IterationStats
from octavo.wire.messages import SchedulerStats

logger = logging.getLogger(__name__)


class LoggingStatLogger:
    """Sums up iterations and logs throughput, load and cache use every `interval` seconds.

    An idle engine has no iterations, so it logs nothing.

    Args:
        interval: seconds; None = OCTAVO_LOG_STATS_INTERVAL.
    """

    def __init__(self, interval: float | None = None) -> None:
        self._interval = envs.LOG_STATS_INTERVAL if interval is None else interval
        self._last_log = time.monotonic()
        self._state: SchedulerStats | None = None
        self._prompt_tokens = self._generation_tokens = self._finished = 0
        self._prefix_queries = self._prefix_hits = self._preemptions = 0

    def record(self, scheduler: SchedulerStats | None, iteration: IterationStats) -> None:
        """Take in one iteration; logs when it is time."""
        self._prompt_tokens += iteration.num_prompt_tokens
        self._generation_tokens += iteration.num_generation_tokens
        self._finished += len(iteration.finished)
        if scheduler is not None:
            self._state = scheduler
            self._prefix_queries += scheduler.prefix_queries
            self._prefix_hits += scheduler.prefix_hits
            self._preemptions += scheduler.num_preemptions
        now = time.monotonic()
        if now - self._last_log >= self._interval:
            self.log(now)

    def log(self, now: float | None = None) -> None:
        """Write the line for the time since the last one."""
        now = time.monotonic() if now is None else now
        seconds = max(now - self._last_log, 1e-9)
        parts = [
            f"prompt {self._prompt_tokens / seconds:.1f} tokens/s",
            f"generation {self._generation_tokens / seconds:.1f} tokens/s",
            f"finished {self._finished}",
        ]
        if self._state is not None:
            parts.append(f"running {self._state.num_running}, waiting {self._state.num_waiting}")
            parts.append(f"KV cache {self._state.kv_usage:.1%}")
        if self._prefix_queries:
            parts.append(f"prefix hits {self._prefix_hits / self._prefix_queries:.1%}")
        if self._preemptions:
            parts.append(f"preemptions {self._preemptions}")
        logger.info("Engine: %s", ", ".join(parts))
        self._last_log = now
        self._reset()

    def _reset(self) -> None:
        self._prompt_tokens = self._generation_tokens = self._finished = 0
        self._prefix_queries = self._prefix_hits = self._preemptions = 0
