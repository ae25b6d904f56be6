"""Counters of the scheduler, and what of them each client has been told."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.wire.messages import SchedulerStats


@dataclass(slots=True)
class Counters:
    """Totals since the core started; the scheduler counts, nobody resets."""

    prefix_queries: int = 0
    prefix_hits: int = 0
    num_preemptions: int = 0
    num_steps: int = 0
    num_scheduled_tokens: int = 0
    """Of the last step only."""

    def snapshot(self) -> Counters:
        return Counters(self.prefix_queries, self.prefix_hits, self.num_preemptions, self.num_steps, self.num_scheduled_tokens)

    def since(
        self, told: Counters, num_running: int, num_waiting: int, kv_usage: float, num_deferred: int = 0
    ) -> SchedulerStats:
        """The message for a client that knows the totals `told`."""
        return SchedulerStats(
            num_running=num_running,
            num_waiting=num_waiting,
            kv_usage=kv_usage,
            prefix_queries=self.prefix_queries - told.prefix_queries,
            prefix_hits=self.prefix_hits - told.prefix_hits,
            num_preemptions=self.num_preemptions - told.num_preemptions,
            num_steps=self.num_steps - told.num_steps,
            num_scheduled_tokens=self.num_scheduled_tokens,
            num_deferred=num_deferred,
        )
