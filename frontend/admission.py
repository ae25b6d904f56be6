"""How much may wait: overload is refused at the door instead of queued without end."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

from octavo.config import SchedulerConfig
from octavo.errors import QueueFullError

MAX_UNREAD = 64 << 20
"""Bytes that may lie before a core which does not read them."""
_REMEMBERED = 32
_MAX_RETRY_AFTER = 60.0


class Admission:
    """Counts the sequences in the core by what they do: waiting for their first step, or running.

    A sequence that would find a free place in the batch does not count as waiting, so that a burst is not refused while
    the engine has room for it.

    Requests that ended while the core stands still are not counted any more but still lie before it, with the aborts: they
    are bounded by their size.

    Args:
        unread: bytes that lie before a core which stands still, 0 while it does not.
    """

    def __init__(self, limits: SchedulerConfig, unread: Callable[[], int] = lambda: 0) -> None:
        self._unread = unread
        self._max_reqs = limits.max_num_queued_reqs
        self._max_tokens = limits.max_num_queued_tokens
        self._max_num_seqs = limits.max_num_seqs
        self._not_scheduled = 0
        self._not_scheduled_tokens = 0
        self._running = 0
        self._left: deque[float] = deque(maxlen=_REMEMBERED)

    def check(self, num_prompt_tokens: int = 0) -> None:
        """Refuse one more request when it would have to wait and the queue is full.

        Raises:
            QueueFullError: with a hint when to come again.
        """
        if (self._max_reqs or self._max_tokens is not None) and self._unread() > MAX_UNREAD:
            raise QueueFullError("The engine stands still, and too much has been sent to it already.", _MAX_RETRY_AFTER)
        free = max(0, self._max_num_seqs - self._running)
        if self._not_scheduled < free and self._fits(num_prompt_tokens):
            return
        queued = self._not_scheduled - free
        if self._max_reqs and queued >= self._max_reqs:
            message = f"The queue is full: {queued} requests are waiting, {self._max_reqs} may."
            raise QueueFullError(message, self._retry_after(queued))
        if not self._fits(num_prompt_tokens):
            message = f"The queue is full: {self._not_scheduled_tokens} prompt tokens are waiting, {self._max_tokens} may."
            raise QueueFullError(message, self._retry_after(max(1, queued)))

    @property
    def full(self) -> bool:
        """Whether one more request would be refused now, however short."""
        try:
            self.check(1)
        except QueueFullError:
            return True
        return False

    def sequence_added(self, num_prompt_tokens: int) -> None:
        """A sequence was sent to the core."""
        self._not_scheduled += 1
        self._not_scheduled_tokens += num_prompt_tokens

    def sequence_scheduled(self, num_prompt_tokens: int) -> None:
        """The core has begun with a sequence."""
        self._not_scheduled -= 1
        self._not_scheduled_tokens -= num_prompt_tokens
        self._running += 1

    def sequence_left(self, was_scheduled: bool, num_prompt_tokens: int) -> None:
        """A sequence has ended."""
        if was_scheduled:
            self._running -= 1
        else:
            self._not_scheduled -= 1
            self._not_scheduled_tokens -= num_prompt_tokens

    def request_left(self) -> None:
        """A request has ended; how often that happens tells when there is room again."""
        self._left.append(time.monotonic())

    def _fits(self, num_prompt_tokens: int) -> bool:
        """Whether the tokens may wait. A prompt longer than the limit may wait when nothing else does."""
        if self._max_tokens is None or not self._not_scheduled_tokens:
            return True
        return self._not_scheduled_tokens + num_prompt_tokens <= self._max_tokens

    def _retry_after(self, queued: int) -> float:
        """Seconds in which about half of the queue should have gone, at the pace of late; whole, 1 to 60."""
        if len(self._left) < 2:
            return 1.0
        seconds_each = (time.monotonic() - self._left[0]) / len(self._left)
        return min(_MAX_RETRY_AFTER, max(1.0, float(math.ceil(seconds_each * queued / 2))))
