"""The engine step by step: add requests, call `step` for what is new, until nothing is unfinished."""

from __future__ import annotations

import asyncio
import dataclasses
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from octavo.config import EngineArgs, EngineConfig
from octavo.errors import EngineDeadError, RequestFailedError
from octavo.frontend.async_llm import AsyncLLM
from octavo.frontend.blocking_control import BlockingControl
from octavo.frontend.llm import close_engine
from octavo.frontend.loop_thread import LoopThread
from octavo.frontend.output_stream import OutputStream
from octavo.inputs import PromptType
from octavo.not_served import LLM_ENGINE_METHODS, refusing
from octavo.outputs import RequestOutput
from octavo.params import SamplingParams

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from octavo.frontend.stats import StatLogger
    from octavo.metrics import Metric


class StepBoard:
    """Where outputs wait for the next `step`: at most one a request. Used on the engine's event loop.

    What a request brings while its last output has not been taken is merged into its next one.
    """

    def __init__(self) -> None:
        self._streams: dict[str, list[OutputStream]] = {}
        self._waiting: list[tuple[OutputStream, RequestOutput | Exception, asyncio.Event]] = []
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def num_unfinished(self) -> int:
        """Requests whose last output has not been taken by `step`."""
        return sum(map(len, self._streams.values()))

    def add(self, stream: OutputStream) -> None:
        """Watch a request."""
        self._streams.setdefault(stream.request_id, []).append(stream)
        task = asyncio.create_task(self._watch(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def step(self) -> list[RequestOutput]:
        """What is new, waiting for something if need be; nothing when no request is unfinished.

        Raises:
            EngineDeadError: the engine is gone.
        """
        if not self._streams:
            return []
        await self._news.wait()
        self._news.clear()
        taken, self._waiting = self._waiting, []
        outputs = []
        for stream, news, seen in taken:
            seen.set()
            if isinstance(news, RequestOutput):
                outputs.append(news)
                last = news.finished
            else:
                outputs.append(_failed(stream, news))
                last = True
            if last:
                self._forget(stream)
        dead = next((news for _, news, _ in taken if isinstance(news, EngineDeadError)), None)
        if dead is not None:
            raise dead
        return outputs

    def drop(self, request_id: str) -> None:
        """Forget requests that the program has aborted: no output of theirs comes any more."""
        for stream in self._streams.pop(request_id, []):
            stream.close()
        self._waiting = [entry for entry in self._waiting if entry[0].request_id != request_id]
        if not self._streams:
            self._news.set()  # a step that waits has nothing to wait for

    async def _watch(self, stream: OutputStream) -> None:
        finished = False
        while not finished:
            news: RequestOutput | Exception
            try:
                news = await stream.get()
                finished = news.finished
            except (RequestFailedError, EngineDeadError) as error:
                news, finished = error, True
            if stream not in self._streams.get(stream.request_id, ()):
                return
            seen = asyncio.Event()
            self._waiting.append((stream, news, seen))
            self._news.set()
            await seen.wait()

    def _forget(self, stream: OutputStream) -> None:
        same_id = self._streams.get(stream.request_id, [])
        if stream in same_id:
            same_id.remove(stream)
        if not same_id:
            self._streams.pop(stream.request_id, None)


@refusing(LLM_ENGINE_METHODS)
class LLMEngine(BlockingControl):
    """An engine that a program drives itself; `LLM` does the same for a list of prompts.

    The core steps on in a process of its own, whether or not `step` is called: outputs that were not taken are merged.

    Attributes:
        engine: the AsyncLLM behind it.
    """

    def __init__(self, engine: AsyncLLM, metrics: Any = None) -> None:
        self.engine = engine
        self._metrics = metrics
        self._thread = LoopThread("octavo-llm-engine")
        self._board = StepBoard()
        self._finalizer = weakref.finalize(self, close_engine, engine, self._thread)

    @classmethod
    def from_engine_args(
        cls,
        engine_args: EngineArgs,
        usage_context: Any = None,  # noqa: ARG003  (nothing is reported anywhere)
        stat_loggers: Sequence[StatLogger] | None = None,
        enable_multiprocessing: bool = True,  # noqa: ARG003  (the core is always a process of its own)
    ) -> Self:
        """Start an engine; returns when it is ready.

        Raises:
            ConfigError: the arguments do not fit together, or the model cannot be found.
            EngineStartError: the core could not start.
        """
        metrics = None
        loggers = list(stat_loggers or ())
        if not engine_args.disable_log_stats:
            from octavo.frontend.metrics import PrometheusStats

            metrics = PrometheusStats()
            loggers.append(metrics)
        # Limits on what may wait are a server's.
        unlimited = dataclasses.replace(engine_args, max_num_queued_reqs=0, max_num_queued_tokens=None)
        engine = AsyncLLM.from_engine_args(unlimited, stat_loggers=loggers)
        if metrics is not None:
            metrics.set_engine(engine.config, engine.ready)
        return cls(engine, metrics)

    @property
    def config(self) -> EngineConfig:
        """The resolved configuration."""
        return self.engine.config

    def add_request(
        self,
        request_id: str,
        prompt: PromptType,
        params: SamplingParams,
        arrival_time: float | None = None,
        lora_request: None = None,
        tokenization_kwargs: Mapping[str, Any] | None = None,
        trace_headers: Mapping[str, str] | None = None,
        priority: int = 0,
        prompt_text: str | None = None,
    ) -> str:
        """Submit a request; its outputs come from `step`, of the kind that `params.output_kind` says.

        Returns:
            The request's id.

        Raises:
            ValidationError: prompt or parameters are not allowed.
            EngineDeadError: the engine is gone.
        """

        async def submit() -> None:
            stream = await self.engine.add_request(
                request_id,
                prompt,
                params,
                arrival_time,
                priority=priority,
                tokenization_kwargs=tokenization_kwargs,
                lora_request=lora_request,
                trace_headers=trace_headers,
                prompt_text=prompt_text,
            )
            self._board.add(stream)

        self._call(submit())
        return request_id

    def step(self) -> list[RequestOutput]:
        """What is new of unfinished requests, waiting until there is something; [] when all are finished.

        A request that failed comes as an output with its `error` set.

        Raises:
            EngineDeadError: the engine is gone.
        """
        outputs: list[RequestOutput] = self._call(self._board.step())
        return outputs

    def has_unfinished_requests(self) -> bool:
        """Whether `step` has more to give."""
        return self._board.num_unfinished > 0

    def get_num_unfinished_requests(self) -> int:
        """Requests whose last output `step` has not given yet."""
        return self._board.num_unfinished

    def abort_request(self, request_ids: str | Sequence[str]) -> None:
        """End requests; no further output of theirs comes."""
        ids = [request_ids] if isinstance(request_ids, str) else list(request_ids)

        async def drop() -> None:
            for request_id in ids:
                self._board.drop(request_id)

        self._call(drop())

    def get_tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The model's tokenizer as transformers has it; None with skip_tokenizer_init."""
        return self.engine.get_tokenizer()

    def get_supported_tasks(self) -> tuple[str, ...]:
        """What the model does."""
        return self._call(self.engine.get_supported_tasks())

    def get_metrics(self) -> list[Metric]:
        """Every metric as it stands; none with disable_log_stats."""
        from octavo.frontend.metrics_snapshot import snapshot

        return [] if self._metrics is None else snapshot(self._metrics)

    def do_log_stats(self) -> None:
        """Log the line of statistics now."""
        self._call(self.engine.do_log_stats())

    def check_health(self) -> None:
        """Return if the engine works. Raises: EngineDeadError."""
        self._call(self.engine.check_health())

    def shutdown(self) -> None:
        """Stop the engine and give its memory back. May be called again."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.shutdown()

    @property
    def _async_llm(self) -> AsyncLLM:
        return self.engine

    def _call(self, coroutine: Any) -> Any:
        if not self._finalizer.alive:
            coroutine.close()
            raise EngineDeadError("this LLMEngine has been shut down")
        return self._thread.call(coroutine)


def _failed(stream: OutputStream, error: Exception) -> RequestOutput:
    return RequestOutput(stream.request_id, None, [], [], finished=True, error=error)
