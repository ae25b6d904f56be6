"""Waiting requests, in the order in which they may start."""

from __future__ import annotations

import abc
import heapq
from collections import OrderedDict
from typing import Literal

from octavo.core.request import Request


class RequestQueue(abc.ABC):
    """Waiting requests; `peek` and `pop` give the next one, `remove` takes any out."""

    @abc.abstractmethod
    def push(self, request: Request) -> None:
        """Add a request that has just arrived."""

    @abc.abstractmethod
    def push_back(self, request: Request) -> None:
        """Return a preempted request to its place: before all that came after it."""

    @abc.abstractmethod
    def peek(self) -> Request | None: ...

    @abc.abstractmethod
    def pop(self) -> Request:
        """Raises: IndexError: the queue is empty."""

    @abc.abstractmethod
    def remove(self, request: Request) -> None:
        """Raises: KeyError: the request does not wait here."""

    @abc.abstractmethod
    def __len__(self) -> int: ...


class FCFSQueue(RequestQueue):
    """First come, first served; every operation is O(1).

    Requests start in this order and the latest is preempted first, so one that returns goes to the front.
    """

    def __init__(self) -> None:
        self._requests: OrderedDict[str, Request] = OrderedDict()

    def push(self, request: Request) -> None:
        self._requests[request.sequence_id] = request

    def push_back(self, request: Request) -> None:
        self._requests[request.sequence_id] = request
        self._requests.move_to_end(request.sequence_id, last=False)

    def peek(self) -> Request | None:
        return next(iter(self._requests.values()), None)

    def pop(self) -> Request:
        if not self._requests:
            raise IndexError("pop from an empty queue")
        return self._requests.popitem(last=False)[1]

    def remove(self, request: Request) -> None:
        del self._requests[request.sequence_id]

    def __len__(self) -> int:
        return len(self._requests)


class PriorityQueue(RequestQueue):
    """Smallest (priority, arrival) first; O(log n).

    A removed request's heap entry stays until it comes up, or until such entries are the majority.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[tuple[int, int], str]] = []
        self._requests: dict[str, Request] = {}

    def push(self, request: Request) -> None:
        heapq.heappush(self._heap, (request.order, request.sequence_id))
        self._requests[request.sequence_id] = request

    def push_back(self, request: Request) -> None:
        self.push(request)

    def peek(self) -> Request | None:
        self._drop_removed()
        return self._requests[self._heap[0][1]] if self._heap else None

    def pop(self) -> Request:
        self._drop_removed()
        return self._requests.pop(heapq.heappop(self._heap)[1])

    def remove(self, request: Request) -> None:
        del self._requests[request.sequence_id]
        if len(self._heap) > 2 * len(self._requests) + 16:
            self._heap = [(r.order, r.sequence_id) for r in self._requests.values()]
            heapq.heapify(self._heap)

    def __len__(self) -> int:
        return len(self._requests)

    def _drop_removed(self) -> None:
        while self._heap and self._heap[0][1] not in self._requests:
            heapq.heappop(self._heap)


def make_queue(policy: Literal["fcfs", "priority"]) -> RequestQueue:
    return PriorityQueue() if policy == "priority" else FCFSQueue()
