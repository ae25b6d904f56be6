"""The contract every executor keeps: one device in this process, many processes, or a cluster, behind the same five verbs."""

from __future__ import annotations

import abc
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from octavo.cache_groups import CacheGroup
from octavo.config import EngineConfig
from octavo.errors import ValidationError
from octavo.executor.step import StepInput, StepOutput

Progress = Callable[[str, float], None]
"""Called as (phase, fraction in 0..1) while the executor starts."""


class Executor(abc.ABC):
    """Runs steps on the device(s).

    One thread calls it. `submit` may be called again before an earlier step's future is done: steps run in order, each
    reading on the device the tokens the one before has sampled.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config

    @abc.abstractmethod
    def start(self, progress: Progress) -> None:
        """Load the weights and size the KV cache; blocks until both are done.

        Raises:
            ConfigError: the model or cache does not fit; names the flag to change.
        """

    @property
    @abc.abstractmethod
    def num_blocks(self) -> int:
        """KV blocks there are; valid after `start`."""

    @property
    @abc.abstractmethod
    def cache_groups(self) -> tuple[CacheGroup, ...]:
        """Groups of the model's caches, which take their blocks from one pool; none for a model without caches."""

    @property
    def row_inputs(self) -> tuple[str, ...]:
        """Names of what requests may bring beside tokens; valid after `start`."""
        return ()

    @property
    def device_name(self) -> str:
        """Device, kernels and threads, for people to read; valid after `start`."""
        return self.config.device.type

    @abc.abstractmethod
    def submit(self, step: StepInput) -> Future[StepOutput]:
        """Queue one step. The future raises what the step raised; the worker then still accepts further steps, the
        requests of the failed one having to be named in `left` of the next.
        """

    def release(self, weights: bool) -> None:
        """Give the memory of the KV cache back, and with `weights` that of the weights; no step may be submitted until both
        are restored. The requests of later steps join anew.

        Raises:
            ValidationError: this executor cannot.
        """
        raise ValidationError(f"{type(self).__name__} cannot give memory back (weights={weights})")

    def restore_weights(self) -> None:
        """Load the weights again."""
        raise ValidationError(f"{type(self).__name__} cannot load weights again")

    def restore_kv_cache(self) -> None:
        """Allocate the KV cache again, as many blocks as before."""
        raise ValidationError(f"{type(self).__name__} cannot allocate a KV cache again")

    def call_workers(self, method: str, args: list[Any], kwargs: dict[str, Any]) -> list[Any]:
        """Have every worker do something by name; one answer a worker, of plain data.

        Raises:
            ValidationError: there is no such call, or it refuses.
        """
        raise ValidationError(f"the workers of {type(self).__name__} take no calls ({method}, {args}, {kwargs})")

    @abc.abstractmethod
    def check_health(self) -> None:
        """Raises: RuntimeError: the device or a worker is gone."""

    @abc.abstractmethod
    def shutdown(self) -> None:
        """Stop and give the memory back. May be called twice."""
