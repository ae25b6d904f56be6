"""The worker: one device with its share of the model, its KV cache, and the runner that works steps off.

The same class runs in the core's own process (`uniproc.py`) and in processes of its own. Everything happens on the thread
that calls it, which must be one and the same: torch's thread pools belong to the thread that uses them.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from typing import Any

import torch

from octavo.config import EngineConfig
from octavo.config.early_checks import shown_bytes
from octavo.errors import ConfigError, ValidationError
from octavo.executor.base import Progress
from octavo.executor.kv_cache import KVCachePlan, allocate_kv_cache, plan_kv_cache
from octavo.executor.memory import available_bytes
from octavo.executor.model_runner import ModelRunner
from octavo.executor.models.contract import Model
from octavo.executor.step import NewRequest, StepInput, StepOutput
from octavo.executor.worker_calls import WORKER_CALLS, Profiler
from octavo.kernels import ops
from octavo.wire.pooling_spec import PoolingSpec
from octavo.wire.sampling_spec import SamplingSpec

logger = logging.getLogger(__name__)

_WARM_UP_TOKENS = 8


class Worker:
    """One device. `start` first, then `execute` as often as you like, `shutdown` last."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._device = torch.device(config.device.type)
        self.profiler = Profiler()
        self._model: Model | None = None
        self._runner: ModelRunner | None = None
        self.device_name = ""
        self._plan: KVCachePlan | None = None
        self.max_model_len = config.model.max_model_len

    def start(self, progress: Progress) -> None:
        """Set the device up, load the weights, size and allocate the cache, run each kind of step once.

        Raises:
            ConfigError: the model or the cache does not fit; names the flag to change.
        """
        progress("device", 0.0)
        self._set_up_device()
        free = available_bytes(self._device)
        self._model = model = self._load_model(progress)
        self._size_kv_cache(model, free, progress)
        self.restore_kv_cache()
        self._warm_up(progress)

    def execute(self, step: StepInput) -> StepOutput:
        """See `ModelRunner.execute`.

        Raises:
            RuntimeError: not started, or shut down.
        """
        if self._runner is None:
            raise RuntimeError("the worker is not running")
        return self._runner.execute(step)

    def shutdown(self) -> None:
        """Give model and cache back. May be called twice."""
        self._model = None
        self._runner = None
        self._collect()

    def release(self, weights: bool) -> None:
        """Give the KV cache back, and with `weights` the model."""
        self._runner = None
        if self._model is not None:
            self._model.forget_caches()
        if weights:
            self._model = None
        gc.unfreeze()  # what start-up made is among it
        self._collect()
        gc.freeze()

    def restore_weights(self) -> None:
        """Load the model again."""
        self._model = self._load_model(lambda _phase, _fraction: None)

    def restore_kv_cache(self) -> None:
        """Allocate the cache, and make the runner that uses it.

        Raises:
            RuntimeError: there is no model.
        """
        if self._model is None:
            raise RuntimeError("the worker has no model")
        plan = self.kv_plan
        caches = allocate_kv_cache(plan.layout, getattr(torch, self._config.cache.dtype), plan.num_blocks, self._device)
        self._runner = ModelRunner(self._config, self._model, caches, plan.layout, self._device, self.max_model_len)

    def call(self, method: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Do one of `WORKER_CALLS`.

        Raises:
            ValidationError: there is no such call, or it refuses.
        """
        function = WORKER_CALLS.get(method)
        if function is None:
            raise ValidationError(f"workers know no method {method!r}; known are {', '.join(WORKER_CALLS)}")
        return function(self, *args, **kwargs)

    @property
    def kv_plan(self) -> KVCachePlan:
        """How the KV cache is laid out.

        Raises:
            RuntimeError: not started.
        """
        if self._plan is None:
            raise RuntimeError("the worker has not sized its KV cache")
        return self._plan

    @property
    def row_inputs(self) -> tuple[str, ...]:
        """See `Model.row_inputs`."""
        return () if self._model is None else tuple(self._model.row_inputs)

    @property
    def config(self) -> EngineConfig:
        """What it was made with."""
        return self._config

    def _collect(self) -> None:
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _set_up_device(self) -> None:
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError("--device cuda: torch sees no CUDA device here; use --device cpu, or a torch built for CUDA")
        kernels = ops.use(device=self._device.type)
        if self._device.type == "cpu":
            torch.set_num_threads(self._config.device.num_threads)
            _set_native_threads(self._config.device.num_threads)
        else:
            torch.cuda.init()
        self.device_name = _device_name(self._device, kernels, self._config.device.num_threads)
        logger.info("%s", self.device_name)

    def _load_model(self, progress: Progress) -> Model:
        from octavo.executor.loader import load_model

        return load_model(self._config, self._device, lambda fraction: progress("weights", fraction))

    def _size_kv_cache(self, model: Model, free_before: int, progress: Progress) -> None:
        progress("kv_cache", 0.0)
        gc.collect()
        needed = model.activation_bytes(self._config.scheduler.max_num_batched_tokens)
        logger.info("activations of the largest step: %s", shown_bytes(needed))
        available = max(0, available_bytes(self._device) - needed)
        plan = plan_kv_cache(self._config, model.cache_specs, available, max(0, free_before - available))
        self._plan, self.max_model_len = plan, plan.max_model_len
        for line in plan.describe():
            logger.info("KV cache: %s", line)

    def _warm_up(self, progress: Progress) -> None:
        """Run a small prefill and a decode step, so that the first request pays for nothing lazy."""
        progress("warm_up", 0.0)
        for step in _warm_up_steps(self._config, self.max_model_len, len(self.kv_plan.layout.groups)):
            self.execute(step)
        progress("warm_up", 1.0)


def _device_name(device: torch.device, kernels: str, num_threads: int) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {kernels} kernels"
    if kernels == "cpu":
        from octavo.kernels.cpu import native

        kernels = f"native {native.isa()}"
    return f"cpu, {kernels} kernels, {num_threads} thread{'s' if num_threads > 1 else ''}"


def _set_native_threads(count: int) -> None:
    """Size the thread pool of the native kernels, where they are the ones in use."""
    if ops.current() == "cpu":
        from octavo.kernels import cpu

        cpu.set_num_threads(count)


def _warm_up_steps(config: EngineConfig, max_model_len: int, num_groups: int) -> Iterator[StepInput]:
    """A greedy and a random request of a few tokens, two steps, and their end; or one that is pooled. The groups write over each other."""
    length = max(
        1, min(_WARM_UP_TOKENS, max_model_len - 1, config.scheduler.max_num_batched_tokens, config.cache.block_size - 1)
    )
    if config.model.pooling is not None:
        yield _pooling_step(length, num_groups)
        yield _leaving_step()
        return
    specs = {
        "warm-up-greedy": SamplingSpec(2, seed=0, temperature=0.0),
        "warm-up-random": SamplingSpec(2, seed=0, temperature=1.0, top_p=0.9, logprobs=1),
    }
    for name, spec in specs.items():
        joining = _warm_up_step(length)
        joining.joined.append(NewRequest(0, name, [0] * length, length, 0, [[0]] * num_groups, spec))
        yield joining
        if length + 1 <= min(max_model_len, config.cache.block_size):
            yield _warm_up_step(1)
        yield _leaving_step()


def _pooling_step(length: int, num_groups: int) -> StepInput:
    """A request of a few tokens is pooled."""
    step = _warm_up_step(length)
    step.joined.append(NewRequest(0, "warm-up", [0] * length, length, 0, [[0]] * num_groups, None, PoolingSpec()))
    return step


def _leaving_step() -> StepInput:
    step = StepInput.empty(-1)
    step.left.append(0)
    return step


def _warm_up_step(num_tokens: int) -> StepInput:
    """Row 0 computes so many tokens."""
    step = StepInput.empty(-1)
    step.rows.append(0)
    step.num_tokens.append(num_tokens)
    step.total_num_tokens = num_tokens
    return step
