"""The engine as an asyncio program sees it: `generate` is an async generator, everything else is housekeeping."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from octavo.config import EngineArgs, EngineConfig
from octavo.core.waiting_core import WaitingCore
from octavo.errors import (
    EngineDeadError,
    OctavoError,
    RequestFailedError,
    RequestRefusedError,
    RequestTimeoutError,
    ValidationError,
)
from octavo.frontend.admission import Admission
from octavo.frontend.chat_template import check_template, make_chat_renderer
from octavo.frontend.collector import OutputSink
from octavo.frontend.core_watch import CoreWatch
from octavo.frontend.engine_control import EngineControl
from octavo.frontend.engine_pooling import EnginePooling, Process
from octavo.frontend.fan_out import FanOut
from octavo.frontend.input_processor import InputProcessor, ProcessedInput, default_sampling_params
from octavo.frontend.io_processing.runner import IOProcessors
from octavo.frontend.log_stats import LoggingStatLogger
from octavo.frontend.output_processor import FollowUp, OutputProcessor
from octavo.frontend.output_pump import pump_core
from octavo.frontend.recovery import Recovery, fingerprint
from octavo.frontend.request_state import RequestState
from octavo.frontend.stats import StatLogger, TokenCounts
from octavo.frontend.text_checks import check_identity
from octavo.frontend.tokenization import tokenized_prompt
from octavo.frontend.tokenizer import Tokenizer, load_tokenizer
from octavo.inputs import PromptType
from octavo.not_served import ASYNC_LLM_METHODS, check_arguments, refusing
from octavo.outputs import RequestOutput
from octavo.owner import Owner
from octavo.params import SamplingParams
from octavo.wire.messages import CoreOutputs, EngineRequest, Progress, Ready

if TYPE_CHECKING:
    from octavo.core.client import CoreClient

logger = logging.getLogger(__name__)

_TEMPLATE_THREADS = 4

OnProgress = Callable[[Progress], None]


@dataclass(slots=True, eq=False)
class _Arrival:
    """A request whose prompt is still being made ready: an abort must find it, too."""

    request_id: str
    aborted: bool = False


@refusing(ASYNC_LLM_METHODS)
class AsyncLLM(EnginePooling, EngineControl):
    """One engine: the core process and the frontend's half of every request. Used from one event loop.

    Make one with `from_engine_args`. It ends with `shutdown`, or with the block in `with` / `async with`.

    Attributes:
        config: the resolved configuration, with the length that the core serves.
        tokenizer: None with skip_tokenizer_init.
        input_processor: checks and converts requests; its `texts` is for callers that need token ids.
        chat_renderer: turns conversations into prompts.
        ready: what the core said when it was ready.
        io_processors: the plugins, loaded.
    """

    def __init__(
        self,
        config: EngineConfig,
        client: CoreClient,
        tokenizer: Tokenizer | None,
        ready: Ready,
        stat_loggers: Sequence[StatLogger] = (),
        io_processors: IOProcessors | None = None,
    ) -> None:
        super().__init__()
        self.config = _as_served(config, ready)
        self.io_processors = io_processors or IOProcessors(config)
        self.tokenizer = tokenizer
        self.ready = ready
        self.input_processor = InputProcessor(config, tokenizer, ready.max_model_len, ready.row_inputs)
        from octavo.core.supervisor import CoreSupervisor

        self._template_threads = ThreadPoolExecutor(_TEMPLATE_THREADS, thread_name_prefix="octavo-template")
        self.chat_renderer = make_chat_renderer(tokenizer, config.model.chat_template, self._template_threads)
        self._supervisor = CoreSupervisor(client, config.max_core_restarts, config.spare_core)
        self._recovery = Recovery(config.scheduler.max_num_seqs)
        self._watch = CoreWatch(lambda: self._client.call("ping", timeout=None))
        self._admission = Admission(config.scheduler, lambda: self._client.backlog if self._watch.silence else 0)
        self._stat_loggers = stat_loggers
        self._outputs = OutputProcessor(self._admission, stat_loggers, config.scheduler.max_num_seqs)
        self._ids = itertools.count()
        self._arriving: list[_Arrival] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pump: asyncio.Task[None] | None = None
        # Why no request can be served any more. Not the exception: its traceback would keep this object alive.
        self._death: str | None = None
        self._closed = False
        self._owner = Owner()

    @classmethod
    def from_engine_args(
        cls, engine_args: EngineArgs, *, stat_loggers: Sequence[StatLogger] = (), on_progress: OnProgress | None = None
    ) -> AsyncLLM:
        """Start an engine; returns when it is ready.

        Args:
            engine_args: what to serve and how.
            stat_loggers: get the measures of every step, beside the log line (unless disable_log_stats).
            on_progress: hears how the start goes.

        Raises:
            ConfigError: the arguments do not fit together, or the model cannot be found.
            EngineStartError: the core could not start.
        """
        with WaitingCore() as core:
            config = engine_args.create_engine_config()
            return cls.from_config(config, stat_loggers=stat_loggers, on_progress=on_progress, core=core)

    @classmethod
    def from_config(
        cls,
        config: EngineConfig,
        *,
        stat_loggers: Sequence[StatLogger] = (),
        on_progress: OnProgress | None = None,
        core: WaitingCore | None = None,
    ) -> AsyncLLM:
        """Like `from_engine_args`, from a resolved configuration; `core` is the process to use if one waits already."""
        from octavo.core.client import CoreClient

        check_template(config.model.chat_template)
        plugins = IOProcessors(config)
        client = CoreClient(config)
        client.spawn(core)
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="octavo-tokenizer") as pool:
                loading = pool.submit(_tokenizer, config)
                ready = client.wait_ready(partial(_report, loading, on_progress))
            tokenizer = loading.result()
            plugins.start(_as_served(config, ready))
            loggers = [LoggingStatLogger(), *stat_loggers] if config.log_stats else list(stat_loggers)
            return cls(config, client, tokenizer, ready, loggers, plugins)
        except BaseException:
            client.close()
            raise

    from_vllm_config = from_config

    @property
    def max_model_len(self) -> int:
        """Most tokens of prompt and output together."""
        return self.ready.max_model_len

    @property
    def num_unfinished(self) -> int:
        """Requests that have not ended."""
        return self._outputs.num_unfinished

    @property
    def errored(self) -> bool:
        """The core is gone though nobody shut it down."""
        return not self._closed and (self._death is not None or (self._client.dead and not self._supervisor.may_restart))

    @property
    def restarting(self) -> bool:
        """The core has died, and another one takes its place; requests wait for it."""
        return not self._closed and not self.errored and (self._recovery.holding or self._client.dead)

    @property
    def dead_error(self) -> EngineDeadError:
        """What a caller is told after the core's death (or after shutdown)."""
        return EngineDeadError(self._death) if self._death else EngineDeadError()

    @property
    def silence(self) -> float:
        """Seconds for which the core has not answered a question that it answers between two steps."""
        return self._watch.silence

    @property
    def queue_full(self) -> bool:
        """Whether one more request would be refused with QueueFullError."""
        return self._admission.full

    @property
    def is_running(self) -> bool:
        return not self._closed and not self.errored

    async def generate(
        self,
        prompt: PromptType,
        sampling_params: SamplingParams,
        request_id: str,
        *,
        priority: int = 0,
        timeout: float | None = None,  # noqa: ASYNC109
        sink: OutputSink | None = None,
        counts: TokenCounts | None = None,
        tokenization_kwargs: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> AsyncGenerator[RequestOutput]:
        """Generate from one prompt; yields outputs of the kind that `sampling_params.output_kind` says.

        Closing the generator (or cancelling who waits for it) aborts the request. A consumer slower than the engine gets
        fewer, larger items.

        Args:
            prompt: text, token ids, or a dict with either.
            sampling_params: not changed.
            request_id: comes back in the outputs; may be used twice.
            priority: lower goes first, with scheduling_policy "priority".
            timeout: seconds the request may take, from now to its last output.
            sink: while the caller waits for the next item, outputs go here instead, as long as it is ready. The last one,
                and those that come while it is not ready (merged), are yielded.
            counts: the request's tokens are added to it when it ends, however it ends.
            tokenization_kwargs: see `tokenization.parse_tokenization`.
            others: vLLM's further arguments, which must stay unset (`not_served.ARGUMENTS`) or only label the request.

        Raises:
            ValidationError: prompt or parameters are not allowed (before the first item).
            QueueFullError: too much is waiting (before the first item).
            RequestTimeoutError: the timeout is over.
            RequestFailedError: the engine failed on this request.
            EngineDeadError: the engine is gone.
        """
        arrival_time = time.monotonic()
        check_arguments("generate", others)
        if tokenization_kwargs:
            prompt = await tokenized_prompt(self.input_processor, prompt, tokenization_kwargs, sampling_params)
        state = await self._submit(prompt, sampling_params, request_id, priority, arrival_time)
        timer = None
        try:
            timer = self._start_timer(state, arrival_time, timeout)
            offer = None if sink is None else partial(_offer, state, sink)
            while True:
                await state.collector.wait(offer)
                output = state.take() if state.fits_a_turn else await state.take_in_pieces()
                yield output
                if output.finished:
                    return
        finally:
            if timer is not None:
                timer.cancel()
            if counts is not None:
                counts.add(len(state.prompt_token_ids), state.metrics.num_generation_tokens)
            self._abort_in_core(self._outputs.abort(state))

    async def abort(self, request_id: str | Sequence[str]) -> None:
        """End requests by the id they were given; their generators yield what there is, with finish reason "abort"."""
        for one in [request_id] if isinstance(request_id, str) else request_id:
            for arrival in self._arriving:
                arrival.aborted |= arrival.request_id == one
            for state in self._outputs.find(one):
                self._abort_in_core(self._outputs.abort(state))

    async def render_chat(self, messages: Sequence[Mapping[str, Any]], /, **options: Any) -> str:
        """The prompt text of a conversation; tokenize it with add_special_tokens=False. Options: `ChatTemplate.render`'s, and
        `chat_template`, the text of one that replaces the model's.

        Raises:
            ValidationError: no template, a malformed conversation, or the template refuses it.
        """
        return await self.chat_renderer.render(messages, **options)

    def get_default_sampling_params(self) -> SamplingParams:
        """Sampling parameters with the model's defaults (generation_config.json)."""
        return default_sampling_params(self.config)

    def shutdown(self, timeout: float = 5.0) -> None:
        """Stop the engine; unfinished requests get EngineDeadError. May be called again, and from any thread.

        Args:
            timeout: seconds the core may take before it is killed.
        """
        if self._closed or self._owner.is_elsewhere:
            return
        self._closed = True
        self._death = self._death or "the engine has been shut down"
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._stop_pump)
        self.input_processor.close()
        self.io_processors.close()
        self._template_threads.shutdown(wait=False, cancel_futures=True)
        self._supervisor.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.shutdown()

    async def __aenter__(self) -> Self:
        self._ensure_running()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.shutdown)

    async def _submit(
        self, prompt: PromptType, params: SamplingParams, request_id: str, priority: int, arrival_time: float
    ) -> RequestState:
        """`_submit_processed` of a request that samples."""
        if self.config.model.pooling is not None:
            raise ValidationError(
                "The model pools and generates no text (--runner pooling); ask it for embeddings or the like."
            )
        process = partial(self.input_processor.process, prompt, params)
        return await self._submit_processed(process, request_id, priority, arrival_time)

    async def _submit_processed(self, process: Process, request_id: str, priority: int, arrival_time: float) -> RequestState:
        """Check, count and send a request; one that is aborted meanwhile has ended when this returns."""
        arrival = _Arrival(request_id)
        self._arriving.append(arrival)
        try:
            state = await self._prepare(process, request_id, priority, arrival_time)
        finally:
            self._arriving.remove(arrival)
        self._start(state)
        if arrival.aborted:
            self._abort_in_core(self._outputs.abort(state))
        return state

    async def _prepare(self, process: Process, request_id: str, priority: int, arrival_time: float) -> RequestState:
        self._ensure_running()
        check_identity(request_id, priority)
        if not self.accepting.is_set():
            await self.accepting.wait()
        self._admission.check()
        processed = await process()
        self._ensure_running()
        self._admission.check(len(processed.prompt_token_ids))
        return self._new_state(processed, request_id, int(priority), arrival_time)

    def _new_state(self, processed: ProcessedInput, request_id: str, priority: int, arrival_time: float) -> RequestState:
        # The number comes first: no caller's id, with an index behind it, is then another's.
        internal_id = f"{next(self._ids):x}-{request_id}"
        fan_out = FanOut(internal_id, processed, arrival_time, priority)
        interval = self.config.scheduler.stream_interval
        return RequestState(request_id, internal_id, fan_out, self.tokenizer, arrival_time, interval)

    def _start_timer(self, state: RequestState, arrival_time: float, timeout: float | None) -> asyncio.TimerHandle | None:
        if timeout is None:
            return None
        delay = max(0.0, arrival_time + timeout - time.monotonic())
        return asyncio.get_running_loop().call_later(delay, self._time_out, state, timeout)

    def _time_out(self, state: RequestState, timeout: float) -> None:
        error = RequestTimeoutError(f"the request took more than {timeout:g} s")
        self._abort_in_core(self._outputs.fail(state, error))

    def _ensure_running(self) -> None:
        """Check that the engine lives and is used from its process and event loop; start reading the core's outputs."""
        self._owner.check()
        if self._death is not None:
            raise self.dead_error
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            self._pump = loop.create_task(self._pump_outputs(), name="octavo-outputs")
            self._watch.start()
        elif self._loop is not loop:
            raise RuntimeError("this AsyncLLM is used from another event loop already; make one engine per event loop")
        if self.errored:
            self._die(str(EngineDeadError()))
            raise self.dead_error

    @property
    def _client(self) -> CoreClient:
        return self._supervisor.client

    def _start(self, state: RequestState) -> None:
        """Count a request and send it, in one step that undoes itself when any of it fails.

        Raises:
            EngineDeadError: the core is gone.
            RequestFailedError: the request cannot be sent.
        """
        try:
            for request in self._outputs.add(state):
                self._send(request)
        except Exception as error:
            self._abort_in_core(self._outputs.withdraw(state))
            raise self._not_sent(state, error) from error

    def _start_next(self, state: RequestState) -> None:
        """Send the next of a request's sequences, if it has more and still lives; a failure is the request's alone."""
        if state.finished or state.fan_out.exhausted:
            return
        try:
            self._send(self._outputs.start_next(state))
        except Exception as error:  # noqa: BLE001 - logged; the request fails
            self._abort_in_core(self._outputs.fail(state, self._not_sent(state, error)))

    def _send(self, request: EngineRequest) -> None:
        """Give the core a request, or keep it until its time has come."""
        if self._recovery.holding:
            self._recovery.hold_back(request.request_id)
        else:
            self._give(request)

    def _give(self, request: EngineRequest) -> None:
        """Give the core a request, or keep it for the next core. Raises: Exception: it cannot be sent."""
        try:
            self._client.add(request, self.input_processor.vocabulary)
        except EngineDeadError:
            if not self._supervisor.may_restart:
                raise
            self._recovery.hold_back(request.request_id)

    def _not_sent(self, state: RequestState, error: Exception) -> OctavoError:
        """What a request is told whose submission failed."""
        if isinstance(error, EngineDeadError):
            self._die(str(error))
            return self.dead_error
        logger.error("request %s could not be sent to the engine core", state.request_id, exc_info=error)
        return RequestFailedError(f"the request could not be sent to the engine core: {error}")

    def _abort_in_core(self, core_ids: list[str]) -> None:
        self._client.abort(core_ids)
        if self._recovery.on_trial:
            self._resume()

    def _tell_core(self, follow_up: FollowUp) -> None:
        self._client.abort(follow_up.aborts)
        for state in follow_up.due:
            self._start_next(state)
        if self._recovery.on_trial:
            self._resume()

    def _resume(self) -> None:
        """Give the core what was held back, as far as it is time."""
        for one in self._recovery.next_to_send(self._outputs.live()):
            try:
                self._give(one.resumed())
            except Exception as error:  # noqa: BLE001 - logged; the request fails
                self._abort_in_core(self._outputs.fail(one.state, self._not_sent(one.state, error)))

    async def _pump_outputs(self) -> None:
        """Hand the cores' messages to their requests until there is no core any more."""
        try:
            while True:
                try:
                    await pump_core(self._client, self._process, self._outputs.deliver)
                except EngineDeadError:
                    await self._replace_core()
        except EngineDeadError as error:
            self._die(str(error))
        except Exception as error:
            logger.exception("reading the core's outputs failed")
            self._die(f"reading the core's outputs failed: {error}")

    async def _process(self, outputs: CoreOutputs) -> None:
        self._tell_core(await self._outputs.process(outputs))

    async def _replace_core(self) -> None:
        """Start a core in the place of the dead one, and have it go on with what that one had.

        Raises:
            EngineDeadError: it cannot be, or is not allowed any more.
        """
        died = time.monotonic()
        death = await self._supervisor.bury()
        blamed = self._recovery.core_died(self._outputs.live(), death)
        logger.warning("%s; starting another, %d requests wait for it", death.reason, self.num_unfinished)
        if blamed is not None:
            self._refuse(blamed)
        self._outputs.core_died()
        self.ready = await self._supervisor.start()
        await self._rest_again()
        self._outputs.core_restarted()
        logger.warning(
            "engine core %d took its place after %.2f s; %d requests go on",
            self.ready.pid, time.monotonic() - died, self.num_unfinished,
        )  # fmt: skip
        self._resume()
        if self._recovery.on_trial:
            logger.warning("cores die and no token is gained between: those that were there are tried one after the other")

    def _refuse(self, state: RequestState) -> None:
        """End a request with which core after core dies."""
        mark = fingerprint(state.fan_out.processed)
        logger.error(
            "request %s is refused: two engine cores died with it at the same token; fingerprint of its prompt and parameters: %s",
            state.request_id, mark,
        )  # fmt: skip
        text = f"two engine cores died with this request at the same token, so it is not tried again (fingerprint {mark})"
        self._outputs.fail(state, RequestRefusedError(text))

    def _die(self, reason: str) -> None:
        if self._death is None:
            self._death = reason
            logger.error("%s; %d requests are lost", reason, self.num_unfinished)
        self._watch.stop()
        self._outputs.fail_all(self._death)

    def _stop_pump(self) -> None:
        self._watch.stop()
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None
        self._outputs.fail_all(str(self.dead_error))


def _as_served(config: EngineConfig, ready: Ready) -> EngineConfig:
    """The configuration with what the core made of it: a length that fits the cache."""
    model = msgspec.structs.replace(config.model, max_model_len=ready.max_model_len)
    return msgspec.structs.replace(config, model=model)


def _offer(state: RequestState, sink: OutputSink) -> bool:
    """Give the sink what is new; False when the consumer must wake for it: at the end, or while the sink is not ready."""
    if state.finish_reason is not None or not state.fits_a_turn or not sink.ready():
        return False
    sink.put(state.take())
    return True


def _report(loading: Future[Tokenizer | None], on_progress: OnProgress | None, progress: Progress) -> None:
    """Tell of the core's progress; raises what the tokenizer's loading raised, for then the rest of the start is in vain."""
    if loading.done():
        loading.result()
    if on_progress is not None:
        on_progress(progress)


def _tokenizer(config: EngineConfig) -> Tokenizer | None:
    return None if config.model.skip_tokenizer_init else load_tokenizer(config.model)
