"""The engine as a plain script sees it: a list of prompts in, a list of outputs out."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from octavo.config import EngineArgs, EngineConfig
from octavo.errors import EngineDeadError, ValidationError
from octavo.frontend.async_llm import AsyncLLM
from octavo.frontend.batch import Job, OnError, run_batch
from octavo.frontend.blocking_control import BlockingControl
from octavo.frontend.enqueued import EnqueuedBatches
from octavo.frontend.io_processing.runner import is_data
from octavo.frontend.llm_pooling import PoolingVerbs
from octavo.frontend.loop_thread import LoopThread
from octavo.frontend.progress_bar import BatchBar, UseTqdm
from octavo.frontend.prompt_lists import as_prompts, one_each
from octavo.frontend.tokenization import Tokenization, parse_tokenization, tokenized
from octavo.inputs import PromptType
from octavo.metrics import Metric
from octavo.not_served import LLM_METHODS, check_arguments, refusing
from octavo.outputs import RequestOutput
from octavo.params import RequestOutputKind, SamplingParams

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from octavo.frontend.metrics import PrometheusStats

Conversation = Sequence[Mapping[str, Any]]


@refusing(LLM_METHODS)
class LLM(PoolingVerbs, BlockingControl):
    """An engine for batches.

    The engine runs beside the caller: the core in a process of its own, the frontend on an event loop in a thread. So it works
    in a script without a main guard and in a notebook whose loop is running. `close()`, the end of a `with` block, or the
    object's end gives all memory back. The limits on waiting requests are a server's and do not apply.

    Args:
        model: hub id, local folder or GGUF file.
        kwargs: any field of `EngineArgs`; vLLM's without effect here are accepted.

    Raises:
        TypeError: an unknown argument.
        ConfigError: the arguments do not fit together, or the model cannot be found.
        EngineStartError: the engine cannot start.
    """

    def __init__(self, model: str, **kwargs: Any) -> None:
        kwargs.setdefault("disable_log_stats", True)
        args = EngineArgs.from_kwargs(model=model, **kwargs)
        args.max_num_queued_reqs, args.max_num_queued_tokens = 0, None
        self._metrics = None if args.disable_log_stats else _new_metrics()
        self._engine = AsyncLLM.from_engine_args(args, stat_loggers=[self._metrics] if self._metrics else [])
        if self._metrics is not None:
            self._metrics.set_engine(self._engine.config, self._engine.ready)
            self._metrics.add(self._engine.io_processors.stats)
        self._thread = LoopThread("octavo-llm")
        self._ids = itertools.count()
        self._enqueued = EnqueuedBatches()
        # Runs at close(), when the object goes, or when the interpreter ends; must not hold the object itself.
        self._finalizer = weakref.finalize(self, close_engine, self._engine, self._thread)

    @classmethod
    def from_engine_args(cls, engine_args: EngineArgs) -> Self:
        """An LLM with the fields of an EngineArgs."""
        fields = dict(vars(engine_args))
        return cls(fields.pop("model"), **fields)

    @property
    def config(self) -> EngineConfig:
        """The resolved configuration."""
        return self._engine.config

    def generate(
        self,
        prompts: PromptType | Sequence[PromptType],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: UseTqdm = True,
        lora_request: None = None,
        priority: int | Sequence[int] | None = None,
        tokenization_kwargs: Mapping[str, Any] | None = None,
        mm_processor_kwargs: None = None,
        on_error: OnError = "raise",
    ) -> list[RequestOutput]:
        """Generate from prompts; Ctrl-C aborts the batch and leaves the engine usable.

        Args:
            prompts: one prompt or a list: texts, lists of token ids, or dicts. A single `DataPrompt` goes through an IO Processor
                plugin, and gives one output whose `outputs` is the plugin's.
            sampling_params: for all, or one for each; None = the model's defaults.
            use_tqdm: show a progress bar (or what to call for one).
            lora_request: must be None: there are no adapters.
            priority: for all, or one for each; lower goes first, with scheduling_policy "priority".
            tokenization_kwargs: `add_special_tokens`, `truncate_prompt_tokens`, `truncation_side`.
            mm_processor_kwargs: must be None: prompts are text.
            on_error: "raise" ends the batch with the first error; "return" gives that prompt an output whose `error` is set.

        Returns:
            One output a prompt, in the order of the prompts.

        Raises:
            ValidationError: a prompt or parameter is not allowed, or a list has not the length of the prompts.
            EngineDeadError: the engine is gone.
        """
        check_arguments("generate", {"lora_request": lora_request, "mm_processor_kwargs": mm_processor_kwargs})
        if is_data(prompts):
            return self._plugin_output(prompts, sampling_params, priority, "generate")
        how = parse_tokenization(tokenization_kwargs) if tokenization_kwargs else None
        return self._run(self._jobs(as_prompts(prompts), sampling_params, priority, how), use_tqdm, on_error)

    def chat(
        self,
        messages: Conversation | Sequence[Conversation],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        use_tqdm: UseTqdm = True,
        lora_request: None = None,
        priority: int | Sequence[int] | None = None,
        chat_template: str | None = None,
        chat_template_content_format: str = "auto",
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        tokenization_kwargs: Mapping[str, Any] | None = None,
        mm_processor_kwargs: None = None,
        *,
        documents: Sequence[Mapping[str, Any]] | None = None,
        on_error: OnError = "raise",
    ) -> list[RequestOutput]:
        """Generate the next turn of conversations; the template writes the prompt.

        Args:
            messages: one conversation (a list of OpenAI's message dicts), or a list of them.
            sampling_params: see `generate`.
            use_tqdm: see `generate`.
            lora_request: see `generate`.
            priority: see `generate`.
            chat_template: text of a template instead of the model's.
            chat_template_content_format: "string", "openai", or "auto" to find out.
            add_generation_prompt: end the prompt with what begins the assistant's turn.
            continue_final_message: leave the last message open, to be continued.
            tools: function schemas for the template.
            chat_template_kwargs: more variables for the template.
            tokenization_kwargs: see `generate`; the template writes special tokens, so none are added.
            mm_processor_kwargs: see `generate`.
            documents: documents for the template.
            on_error: see `generate`.

        Raises:
            ValidationError: a conversation is malformed, or the template refuses it.
        """
        jobs = self._chat_jobs(
            messages,
            sampling_params,
            priority,
            lora_request=lora_request,
            chat_template=chat_template,
            chat_template_content_format=chat_template_content_format,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            tools=tools,
            chat_template_kwargs=chat_template_kwargs,
            tokenization_kwargs=tokenization_kwargs,
            mm_processor_kwargs=mm_processor_kwargs,
            documents=documents,
        )
        return self._run(jobs, use_tqdm, on_error)

    def enqueue(
        self,
        prompts: PromptType | Sequence[PromptType],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: UseTqdm = True,  # noqa: ARG002  (submitting takes no time worth showing)
        lora_request: None = None,
        priority: int | Sequence[int] | None = None,
        tokenization_kwargs: Mapping[str, Any] | None = None,
        mm_processor_kwargs: None = None,
    ) -> list[str]:
        """Like `generate`, but returns at once; `wait_for_completion` gives the outputs.

        Returns:
            The requests' ids, in the order of the prompts.
        """
        check_arguments("enqueue", {"lora_request": lora_request, "mm_processor_kwargs": mm_processor_kwargs})
        how = parse_tokenization(tokenization_kwargs) if tokenization_kwargs else None
        return self._start(self._jobs(as_prompts(prompts), sampling_params, priority, how))

    def enqueue_chat(
        self,
        messages: Conversation | Sequence[Conversation],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: UseTqdm = True,  # noqa: ARG002
        priority: int | Sequence[int] | None = None,
        **options: Any,
    ) -> list[str]:
        """Like `chat`, whose `options` it takes, but returns at once; see `enqueue`."""
        return self._start(self._chat_jobs(messages, sampling_params, priority, **options))

    def wait_for_completion(self, *, use_tqdm: UseTqdm = True) -> list[RequestOutput]:
        """Wait for all that was enqueued; the outputs in that order.

        Raises:
            ValidationError: one of the prompts or parameters is not allowed. The others are lost, as with `generate`.
            EngineDeadError: the engine is gone.
        """
        batches, self._enqueued = self._enqueued, EnqueuedBatches()
        with BatchBar(batches.num_requests, use_tqdm) as bar:
            return self._call(batches.wait(bar.update))

    def get_tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The model's tokenizer as transformers has it; None with skip_tokenizer_init."""
        return self._engine.get_tokenizer()

    def get_default_sampling_params(self) -> SamplingParams:
        """Sampling parameters with the model's defaults (generation_config.json); a new object each time."""
        return self._engine.get_default_sampling_params()

    def get_world_size(self, include_dp: bool = True) -> int:  # noqa: ARG002  (as vLLM has it)
        """Devices that hold the model."""
        return 1

    def get_metrics(self) -> list[Metric]:
        """Every metric as it stands, with the names that /metrics has.

        Raises:
            ValidationError: statistics are off, which is the default here; say disable_log_stats=False.
        """
        if self._metrics is None:
            raise ValidationError("get_metrics() needs LLM(..., disable_log_stats=False).", parameter="disable_log_stats")
        from octavo.frontend.metrics_snapshot import snapshot

        return snapshot(self._metrics)

    def close(self) -> None:
        """Stop the engine and give its memory back. May be called again."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _run(self, jobs: Sequence[Job], use_tqdm: UseTqdm, on_error: OnError) -> list[RequestOutput]:
        if on_error not in ("raise", "return"):
            raise ValidationError(
                f"on_error must be 'raise' or 'return', got {on_error!r}.", parameter="on_error", value=on_error
            )
        with BatchBar(len(jobs), use_tqdm) as bar:
            return self._call(run_batch(self._engine, jobs, on_error, bar.update), bar.show)

    def _start(self, jobs: Sequence[Job]) -> list[str]:
        self._check_open()
        self._enqueued.add(self._engine, jobs, self._thread)
        return [job.request_id for job in jobs]

    def _jobs(
        self,
        prompts: Sequence[Any],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        priority: int | Sequence[int] | None,
        how: Tokenization | None,
    ) -> list[Job]:
        params = self.get_default_sampling_params() if sampling_params is None else sampling_params
        all_params = one_each("sampling_params", params, len(prompts))
        priorities = one_each("priority", 0 if priority is None else priority, len(prompts))
        jobs = []
        for prompt, one, rank in zip(prompts, all_params, priorities, strict=True):
            final = _final_only(one)
            source = prompt if how is None else self._tokenized_prompt(prompt, how, final.max_tokens)
            jobs.append(Job(source, final, self._next_id(), rank))
        return jobs

    def _chat_jobs(
        self,
        messages: Conversation | Sequence[Conversation],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        priority: int | Sequence[int] | None,
        *,
        lora_request: None = None,
        mm_processor_kwargs: None = None,
        tokenization_kwargs: Mapping[str, Any] | None = None,
        chat_template_content_format: str = "auto",
        chat_template_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> list[Job]:
        check_arguments("chat", {"lora_request": lora_request, "mm_processor_kwargs": mm_processor_kwargs})
        how = parse_tokenization(tokenization_kwargs or {}, add_special_tokens=False)
        variables = {"content_format": chat_template_content_format, **options, **(chat_template_kwargs or {})}
        prompts = [self._chat_prompt(conversation, variables) for conversation in _as_conversations(messages)]
        return self._jobs(prompts, sampling_params, priority, how)

    def _tokenized_prompt(self, prompt: Any, how: Tokenization, max_tokens: int | None) -> Callable[[], Awaitable[PromptType]]:
        processor = self._engine.input_processor

        async def make() -> PromptType:
            made = await prompt() if callable(prompt) else prompt
            return await tokenized(processor, made, how, max_tokens)

        return make

    @property
    def _async_llm(self) -> AsyncLLM:
        return self._engine

    def _call(self, coroutine: Any, while_waiting: Callable[[], None] | None = None) -> Any:
        try:
            self._check_open()
        except EngineDeadError:
            coroutine.close()
            raise
        return self._thread.call(coroutine, while_waiting)

    def _next_id(self) -> str:
        return str(next(self._ids))

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise EngineDeadError("this LLM has been closed")

    def _chat_prompt(self, messages: Conversation, options: Mapping[str, Any]) -> Callable[[], Awaitable[PromptType]]:
        engine = self._engine

        async def make() -> PromptType:
            return await engine.render_chat(messages, **options)

        return make


def _new_metrics() -> PrometheusStats:
    from octavo.frontend.metrics import PrometheusStats

    return PrometheusStats()


def close_engine(engine: AsyncLLM, thread: LoopThread) -> None:
    """Stop an engine, then the event loop it ran on."""
    engine.shutdown()
    thread.close()


def _final_only(params: SamplingParams) -> SamplingParams:
    if not isinstance(params, SamplingParams):
        raise ValidationError(
            f"sampling_params must be SamplingParams, got {type(params).__name__}.", parameter="sampling_params"
        )
    if params.output_kind is RequestOutputKind.FINAL_ONLY:
        return params
    params = params.clone()
    params.output_kind = RequestOutputKind.FINAL_ONLY
    return params


def _as_conversations(messages: Any) -> list[Any]:
    """A list of conversations, also from a single one."""
    return list(messages) if messages and isinstance(messages[0], Sequence) else [messages]
