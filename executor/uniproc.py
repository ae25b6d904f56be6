"""The executor for one device: a worker on a thread of its own in the core's process."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from octavo.cache_groups import CacheGroup
from octavo.config import EngineConfig
from octavo.executor.base import Executor, Progress
from octavo.executor.import_torch import import_torch
from octavo.executor.step import StepInput, StepOutput

if TYPE_CHECKING:
    from octavo.executor.worker import Worker


class UniprocExecutor(Executor):
    """Runs every step on one thread, in order, so that the core can schedule the next one meanwhile."""

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config)
        self._worker = _make_worker(config)
        # One thread also for loading: torch's compute threads belong to the thread that first used them.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="octavo-worker")
        self._running = False

    def start(self, progress: Progress) -> None:
        self._thread.submit(self._worker.start, progress).result()
        self._running = True

    @property
    def num_blocks(self) -> int:
        return self._worker.kv_plan.num_blocks

    @property
    def cache_groups(self) -> tuple[CacheGroup, ...]:
        return self._worker.kv_plan.layout.groups

    @property
    def row_inputs(self) -> tuple[str, ...]:
        return self._worker.row_inputs

    @property
    def device_name(self) -> str:
        return self._worker.device_name

    def submit(self, step: StepInput) -> Future[StepOutput]:
        return self._thread.submit(self._worker.execute, step)

    def release(self, weights: bool) -> None:
        self._thread.submit(self._worker.release, weights).result()

    def restore_weights(self) -> None:
        self._thread.submit(self._worker.restore_weights).result()

    def restore_kv_cache(self) -> None:
        self._thread.submit(self._worker.restore_kv_cache).result()

    def call_workers(self, method: str, args: list[Any], kwargs: dict[str, Any]) -> list[Any]:
        return [self._thread.submit(self._worker.call, method, args, kwargs).result()]

    def check_health(self) -> None:
        if not self._running:
            raise RuntimeError("the executor is not running")

    def shutdown(self) -> None:
        self._running = False
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._worker.shutdown()


def _make_worker(config: EngineConfig) -> Worker:
    import_torch()
    from octavo.executor.worker import Worker

    return Worker(config)
