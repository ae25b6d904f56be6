"""A request for a plugin, from its data to the plugin's output: the phases around the model, and what is tried again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeGuard

from octavo.config import EngineConfig
from octavo.errors import ConfigError, PluginError, PluginUnavailableError, RequestFailedError, ValidationError
from octavo.frontend.io_processing.host import Host, HostLostError, ThreadHost
from octavo.frontend.io_processing.making import calls_of
from octavo.frontend.io_processing.pool import WorkerPool
from octavo.frontend.io_processing.process import ProcessHost
from octavo.frontend.io_processing.stats import IOProcessorStats
from octavo.inputs import DataPrompt
from octavo.params import RequestOutputKind, SamplingParams
from octavo.plugins.discovery import check_installed
from octavo.plugins.generations import Done, Params, Prepared, Schemas
from octavo.plugins.io_processor import ModelOutput
from octavo.plugins.messages import IOProcessorRequest
from octavo.pooling_outputs import PoolingRequestOutput
from octavo.pooling_params import PoolingParams

logger = logging.getLogger(__name__)

_ATTEMPTS = 3
"""Workers that may be lost under a request before it is given up."""
_TASKS = ("token_embed", "token_classify", "plugin")
"""What a plugin of the first generation means that names no task: the first of these that the model has."""


class Engine(Protocol):
    """What is needed of `AsyncLLM`."""

    @property
    def supported_pooling_tasks(self) -> tuple[str, ...]: ...

    def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, *, priority: int = 0
    ) -> AsyncGenerator[Any]: ...

    def encode(
        self, prompt: Any, pooling_params: PoolingParams, request_id: str, *, priority: int = 0
    ) -> AsyncGenerator[Any]: ...


@dataclass
class Answer:
    """What came of a request.

    Attributes:
        output: offline the plugin's object; online the JSON of the whole answer, as bytes.
        seconds: by phase: "queue", the plugin's methods, and "model".
        num_prompt_tokens, num_cached_tokens: over all prompts.
    """

    output: Any
    seconds: dict[str, float] = field(default_factory=dict)
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0

    @property
    def server_timing(self) -> str:
        """The `Server-Timing` header: milliseconds by phase."""
        return ", ".join(f"{phase};dur={seconds * 1000:.3f}" for phase, seconds in self.seconds.items())


@dataclass
class _Run:
    """One request under way."""

    plugin: str
    pool: WorkerPool
    request: IOProcessorRequest[Any]
    request_id: str
    params: Params | None
    priority: int
    online: bool
    generate: bool
    plugins_id: str | None
    """The id that the plugin gets."""
    host: Host | None = None
    """Whose plugin knows of the request."""
    seconds: dict[str, float] = field(default_factory=dict)

    def prepare(self, host: Host) -> Any:
        return host.prepare(self.request, self.plugins_id, self.params, online=self.online, generate=self.generate)

    def finish(self, host: Host, outputs: list[tuple[int, ModelOutput]]) -> Any:
        return host.finish(outputs, self.plugins_id, online=self.online, answer_id=self.request_id)


class IOProcessors:
    """All plugins of an engine.

    Args:
        config: `io_processor` says which.

    Attributes:
        names: the plugins, the default first.
        stats: for /metrics.

    Raises:
        ConfigError: one of them is not installed.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self.names = config.io_processor.plugins
        check_installed(self.names)
        self.stats = IOProcessorStats()
        self._pools: dict[str, WorkerPool] = {}
        self._under_way: set[str] = set()
        self.stats.replaced = lambda: [(name, pool.replaced) for name, pool in self._pools.items()]

    def start(self, config: EngineConfig) -> None:
        """Load every plugin; blocks.

        Args:
            config: as it is served; plugins get it as a read-only view.

        Raises:
            ConfigError: one cannot be loaded.
        """
        self._config = config
        self._pools = {name: self._pool(name) for name in self.names}
        began = time.monotonic()
        try:
            with ThreadPoolExecutor(max(1, len(self._pools)), thread_name_prefix="octavo-plugins") as threads:
                list(threads.map(lambda pool: pool.start(), self._pools.values()))
        except PluginUnavailableError as error:
            self.close()
            raise ConfigError(str(error)) from error
        except BaseException:
            self.close()
            raise
        if self.names:
            where = f"in {config.io_processor.workers} processes each" if config.io_processor.workers else "in threads"
            logger.info(
                "IO Processor plugins %s run %s, loaded in %.1f s", ", ".join(self.names), where, time.monotonic() - began
            )

    def close(self) -> None:
        """End all workers; idempotent, from any thread."""
        for pool in self._pools.values():
            pool.close()

    def find(self, name: str | None) -> str:
        """The plugin that a request means.

        Raises:
            ValidationError: there is none, or none of that name.
        """
        if not self.names:
            text = "No IOProcessor plugin installed. Start the engine with --io-processor-plugin NAME."
            raise ValidationError(text, parameter="io_processor" if name else "data")
        if name is None:
            return self.names[0]
        if name not in self.names:
            text = f"io_processor must be one of {', '.join(self.names)}, got {name[:200]!r}."
            raise ValidationError(text, parameter="io_processor", value=name)
        return name

    def schemas(self) -> dict[str, Schemas]:
        """JSON Schemas of what each plugin declares, by its name: {"input": ..., "output": ...}, None where it declares none."""
        return {name: pool.schemas for name, pool in self._pools.items()}

    async def run(
        self,
        engine: Engine,
        request: IOProcessorRequest[Any],
        request_id: str,
        *,
        params: Params | None = None,
        priority: int = 0,
        online: bool = True,
        alone: bool = False,
    ) -> Answer:
        """Have a plugin and the model do a request. Who stops waiting aborts it.

        Args:
            engine: the model.
            request: `data`, and what else the client sent; `task` "generate" generates, as all do on a model that does not pool.
            request_id: the plugin gets it, unless `alone`; prompts have it with their index behind.
            params: what the caller asks for; None leaves it to the plugin.
            priority: of the prompts.
            online: make the HTTP answer; asynchronous methods are called.
            alone: no other request is under way, so that the plugin needs no id to tell them apart.

        Raises:
            ValidationError: the plugin or the engine refuses the request.
            PluginError: the plugin failed.
            RequestTimeoutError: the plugin took too long.
            PluginUnavailableError: the plugin cannot be called now.
            QueueFullError: too much is waiting.
        """
        name = self.find(request.io_processor)
        generate = request.task == "generate" or not engine.supported_pooling_tasks
        plugins_id = None if alone else request_id
        run = _Run(name, self._pools[name], request, request_id, params, priority, online, generate, plugins_id)
        if request_id in self._under_way:
            # A plugin keeps by it what it knows of a request, which another client's must not get.
            raise ValidationError(f"request_id {request_id[:100]!r} is that of a request under way.", parameter="request_id")
        outcome = "abort"
        self._under_way.add(request_id)
        try:
            answer = await self._done(engine, run)
            outcome = "ok"
            return answer
        except Exception as error:
            outcome = type(error).__name__
            raise
        finally:
            if outcome != "ok" and run.host is not None:
                run.host.forget(plugins_id)
            self._under_way.discard(request_id)
            self.stats.count(name, outcome)
            self.stats.observe(name, run.seconds)

    async def output(
        self,
        engine: Engine,
        prompt: Mapping[str, Any],
        request_id: str,
        *,
        params: Params | None = None,
        priority: int = 0,
        task: str | None = None,
        alone: bool = False,
    ) -> PoolingRequestOutput[Any]:
        """Have a plugin and the model do a `DataPrompt`; `outputs` of what this gives is the plugin's output. Arguments: see `run`.

        Raises:
            ValidationError: the prompt or the task is none for a plugin, or see `run`.
            OctavoError: see `run`.
        """
        unknown = set(prompt) - set(DataPrompt.__annotations__)
        if unknown:
            raise ValidationError(f"a prompt with data has no {', '.join(sorted(map(repr, unknown)))}.", parameter="prompts")
        if task not in (None, "plugin", "generate"):
            raise ValidationError("The 'data' field is only supported for the 'plugin' pooling task.", parameter="pooling_task")
        if prompt["data"] is None:
            raise ValidationError("data must not be None.", parameter="data")
        request: IOProcessorRequest[Any] = IOProcessorRequest(
            data=prompt["data"],
            data_format=prompt.get("data_format"),
            io_processor=prompt.get("io_processor"),
            task=task or "plugin",
        )
        answer = await self.run(engine, request, request_id, params=params, priority=priority, online=False, alone=alone)
        return PoolingRequestOutput("" if alone else request_id, answer.output, [], num_cached_tokens=answer.num_cached_tokens)

    async def _done(self, engine: Engine, run: _Run) -> Answer:
        host, prepared = await self._prepared(run)
        began = time.monotonic()
        outputs = await self._ask_model(engine, run, prepared)
        run.seconds["model"] = time.monotonic() - began
        done = await self._finished(run, host, outputs)
        run.seconds.update(done.seconds)
        answer = Answer(done.output, run.seconds)
        for _, output in outputs:
            answer.num_prompt_tokens += len(output.prompt_token_ids)
            answer.num_cached_tokens += output.num_cached_tokens
        return answer

    async def _prepared(self, run: _Run) -> tuple[Host, Prepared]:
        """The prompts, and the worker that made them: what it remembers of the request is there and nowhere else."""
        for _ in range(_ATTEMPTS):
            host = run.host = await run.pool.pick()
            began = time.monotonic()
            try:
                prepared = await run.prepare(host)
            except HostLostError:
                continue
            run.seconds["queue"] = max(0.0, time.monotonic() - began - sum(prepared.seconds.values()))
            run.seconds.update(prepared.seconds)
            return host, prepared
        raise self._given_up(run)

    async def _finished(self, run: _Run, host: Host, outputs: list[tuple[int, ModelOutput]]) -> Done:
        for _ in range(_ATTEMPTS):
            try:
                done: Done = await run.finish(host, outputs)
            except HostLostError:
                # The successor has never seen the request: it makes the prompts once more, for which the outputs are there.
                host, _prepared = await self._prepared(run)
            else:
                return done
        raise self._given_up(run)

    def _given_up(self, run: _Run) -> PluginError:
        text = f"{_ATTEMPTS} workers of the IO Processor plugin {run.plugin!r} were lost under this request"
        return PluginError(text, plugin=run.plugin)

    async def _ask_model(self, engine: Engine, run: _Run, prepared: Prepared) -> list[tuple[int, ModelOutput]]:
        """Index and output of each prompt, in the order in which they are finished; the first failure aborts the others."""
        outputs: list[tuple[int, ModelOutput]] = []
        # A request of many prompts waits here rather than in the engine's queue, where it would be in everybody's way.
        room = asyncio.Semaphore(max(1, self._config.scheduler.max_num_seqs // 2))

        async def one(index: int, prompt: Any, params: Params) -> None:
            async with room:
                outputs.append((index, await self._ask(engine, run, f"{run.request_id}-{index}", prompt, params)))

        pairs = zip(prepared.prompts, prepared.params, strict=True)
        tasks = [asyncio.create_task(one(index, *pair)) for index, pair in enumerate(pairs)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return outputs

    async def _ask(self, engine: Engine, run: _Run, request_id: str, prompt: Any, params: Params) -> ModelOutput:
        prompt = _with_salt(_with_flat_arrays(prompt), run.request.cache_salt)
        if isinstance(params, SamplingParams):
            params = params.clone()
            params.output_kind = RequestOutputKind.FINAL_ONLY
            asked = engine.generate(prompt, params, request_id, priority=run.priority)
        else:
            asked = engine.encode(prompt, _with_task(params, engine), request_id, priority=run.priority)
        async with aclosing(asked):
            async for output in asked:
                if output.finished:
                    made: ModelOutput = output
                    return made
        raise RequestFailedError(f"request {request_id} ended without an output")

    def _pool(self, name: str) -> WorkerPool:
        config = self._config
        make: Callable[[], Host] = partial(ProcessHost, name, config)
        if not config.io_processor.workers:
            make = partial(ThreadHost, name, partial(calls_of, name, config), config.io_processor.timeout)
        return WorkerPool(name, make, config.io_processor.workers or 1, config.scheduler.max_num_queued_reqs)


def is_data(prompts: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether it is one prompt for a plugin."""
    return isinstance(prompts, Mapping) and "data" in prompts


def _with_task(params: PoolingParams, engine: Engine) -> PoolingParams:
    if params.task is not None:
        return params
    tasks = engine.supported_pooling_tasks
    if not tasks:
        raise ValidationError('the model generates and does not pool; say "task": "generate".', parameter="task")
    task: Any = next((task for task in _TASKS if task in tasks), tasks[0])
    params = params.clone()
    params.task = task
    return params


def _with_flat_arrays(prompt: Any) -> Any:
    """A prompt whose arrays are there by name, also where a plugin has them by modality first, as later vLLMs want them."""
    arrays = prompt.get("multi_modal_data") if isinstance(prompt, Mapping) else None
    if not isinstance(arrays, Mapping) or not arrays or not all(isinstance(one, Mapping) for one in arrays.values()):
        return prompt
    return {**prompt, "multi_modal_data": {name: array for one in arrays.values() for name, array in one.items()}}


def _with_salt(prompt: Any, salt: str | None) -> Any:
    if salt is None:
        return prompt
    if isinstance(prompt, Mapping):
        return {"cache_salt": salt, **prompt}
    return {"prompt" if isinstance(prompt, str) else "prompt_token_ids": prompt, "cache_salt": salt}
