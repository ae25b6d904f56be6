"""The engine as a plain script sees it: a list of prompts in, a list of outputs out."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from octavo.config import EngineArgs, EngineConfig
from octavo.errors import EngineDeadError, ValidationError
from octavo.frontend.async_llm import AsyncLLM
from octavo.frontend.batch import Job, OnError, run_batch
from octavo.frontend.loop_thread import LoopThread
from octavo.frontend.progress_bar import BatchBar, UseTqdm
from octavo.frontend.tokenizer import Tokenizer
from octavo.inputs import PromptType, TokensPrompt
from octavo.outputs import RequestOutput
from octavo.params import RequestOutputKind, SamplingParams

Conversation = Sequence[Mapping[str, Any]]


class LLM:
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
        self._engine = AsyncLLM.from_engine_args(args)
        self._thread = LoopThread("octavo-llm")
        self._ids = itertools.count()
        # Runs at close(), when the object goes, or when the interpreter ends; must not hold the object itself.
        self._finalizer = weakref.finalize(self, _close, self._engine, self._thread)

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
        priority: int | Sequence[int] | None = None,
        on_error: OnError = "raise",
    ) -> list[RequestOutput]:
        """Generate from prompts; Ctrl-C aborts the batch and leaves the engine usable.

        Args:
            prompts: one prompt or a list: texts, lists of token ids, or dicts.
            sampling_params: for all, or one for each; None = the model's defaults.
            use_tqdm: show a progress bar (or what to call for one).
            priority: for all, or one for each; lower goes first, with scheduling_policy "priority".
            on_error: "raise" ends the batch with the first error; "return" gives that prompt an output whose `error` is set.

        Returns:
            One output a prompt, in the order of the prompts.

        Raises:
            ValidationError: a prompt or parameter is not allowed.
            ValueError: a list has not the length of the prompts.
            EngineDeadError: the engine is gone.
        """
        return self._run(_as_prompts(prompts), sampling_params, priority, use_tqdm, on_error)

    def chat(
        self,
        messages: Conversation | Sequence[Conversation],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        use_tqdm: UseTqdm = True,
        *,
        priority: int | Sequence[int] | None = None,
        chat_template: str | None = None,
        chat_template_content_format: str = "auto",
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        on_error: OnError = "raise",
    ) -> list[RequestOutput]:
        """Generate the next turn of conversations; the template writes the prompt.

        Args:
            messages: one conversation (a list of OpenAI's message dicts), or a list of them.
            sampling_params: see `generate`.
            use_tqdm: see `generate`.
            priority: see `generate`.
            chat_template: text of a template instead of the model's.
            chat_template_content_format: "string", "openai", or "auto" to find out.
            add_generation_prompt: end the prompt with what begins the assistant's turn.
            continue_final_message: leave the last message open, to be continued.
            tools: function schemas for the template.
            documents: documents for the template.
            chat_template_kwargs: more variables for the template.
            on_error: see `generate`.

        Raises:
            ValidationError: a conversation is malformed, or the template refuses it.
        """
        options = {
            "chat_template": chat_template,
            "content_format": chat_template_content_format,
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": continue_final_message,
            "tools": tools,
            "documents": documents,
            **(chat_template_kwargs or {}),
        }
        prompts = [self._chat_prompt(conversation, options) for conversation in _as_conversations(messages)]
        return self._run(prompts, sampling_params, priority, use_tqdm, on_error)

    def get_tokenizer(self) -> Tokenizer | None:
        """The model's tokenizer; None with skip_tokenizer_init."""
        return self._engine.get_tokenizer()

    def get_default_sampling_params(self) -> SamplingParams:
        """Sampling parameters with the model's defaults (generation_config.json); a new object each time."""
        return self._engine.get_default_sampling_params()

    def reset_prefix_cache(self) -> bool:
        """Forget cached prefixes; False when running requests keep that from being done."""
        return self._call(self._engine.reset_prefix_cache())

    def close(self) -> None:
        """Stop the engine and give its memory back. May be called again."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _run(
        self,
        prompts: Sequence[Any],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        priority: int | Sequence[int] | None,
        use_tqdm: UseTqdm,
        on_error: OnError,
    ) -> list[RequestOutput]:
        if on_error not in ("raise", "return"):
            raise ValidationError(
                f"on_error must be 'raise' or 'return', got {on_error!r}.", parameter="on_error", value=on_error
            )
        params = self.get_default_sampling_params() if sampling_params is None else sampling_params
        all_params = _one_each("sampling_params", params, len(prompts))
        priorities = _one_each("priority", priority or 0, len(prompts))
        jobs = [
            Job(prompt, _final_only(one), str(next(self._ids)), rank)
            for prompt, one, rank in zip(prompts, all_params, priorities, strict=True)
        ]
        with BatchBar(len(jobs), use_tqdm) as bar:
            return self._call(run_batch(self._engine, jobs, on_error, bar.update), bar.show)

    def _call(self, coroutine: Any, while_waiting: Callable[[], None] | None = None) -> Any:
        if not self._finalizer.alive:
            coroutine.close()
            raise EngineDeadError("this LLM has been closed")
        return self._thread.call(coroutine, while_waiting)

    def _chat_prompt(self, messages: Conversation, options: Mapping[str, Any]) -> Callable[[], Awaitable[PromptType]]:
        engine = self._engine

        async def make() -> PromptType:
            text = await engine.render_chat(messages, **options)
            ids = await engine.input_processor.texts.encode(text, add_special_tokens=False)
            return TokensPrompt(prompt_token_ids=ids, prompt=text)

        return make


def _close(engine: AsyncLLM, thread: LoopThread) -> None:
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


def _as_prompts(prompts: Any) -> list[Any]:
    """A list of prompts, also from a single one; a flat list of ids is one prompt."""
    if isinstance(prompts, str | Mapping) or not isinstance(prompts, Sequence):
        return [prompts]
    if prompts and all(isinstance(item, int) for item in prompts):
        return [prompts]
    return list(prompts)


def _as_conversations(messages: Any) -> list[Any]:
    """A list of conversations, also from a single one."""
    return list(messages) if messages and isinstance(messages[0], Sequence) else [messages]


def _one_each(name: str, value: Any, number: int) -> list[Any]:
    if not isinstance(value, Sequence):
        return [value] * number
    if len(value) != number:
        raise ValueError(f"{name} has {len(value)} entries for {number} prompts; give one for each, or one for all")
    return list(value)
