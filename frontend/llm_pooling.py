"""What a plain script does with a model that pools: `encode`, and one verb for each task."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from octavo.errors import ValidationError
from octavo.frontend.batch import PoolingJob, run_batch
from octavo.frontend.io_processing.runner import is_data
from octavo.frontend.pooling import with_tokenization
from octavo.frontend.progress_bar import BatchBar, UseTqdm
from octavo.frontend.prompt_lists import as_prompts, one_each
from octavo.frontend.scoring import cosine, paired
from octavo.inputs import PromptType
from octavo.not_served import check_arguments
from octavo.pooling_outputs import (
    ClassificationRequestOutput,
    EmbeddingRequestOutput,
    PoolingOutput,
    PoolingRequestOutput,
    ScoringOutput,
    ScoringRequestOutput,
)
from octavo.pooling_params import PoolingParams, PoolingTask

if TYPE_CHECKING:
    from octavo.frontend.async_llm import AsyncLLM

Pooled = PoolingRequestOutput[PoolingOutput]
Prompts = PromptType | Sequence[PromptType]
ManyParams = PoolingParams | Sequence[PoolingParams] | None


class PoolingVerbs(abc.ABC):
    """Verbs of `LLM` for models that pool (`runner="pooling"`); outputs come in the order of the prompts."""

    @property
    @abc.abstractmethod
    def _async_llm(self) -> AsyncLLM:
        """The engine."""

    @abc.abstractmethod
    def _call(self, coroutine: Any, while_waiting: Callable[[], None] | None = None) -> Any:
        """The result of a coroutine, run where the engine lives."""

    @abc.abstractmethod
    def _next_id(self) -> str:
        """An id for the next request."""

    @property
    def supported_pooling_tasks(self) -> tuple[str, ...]:
        """See `AsyncLLM.supported_pooling_tasks`."""
        return self._async_llm.supported_pooling_tasks

    def encode(
        self,
        prompts: Prompts,
        pooling_params: ManyParams = None,
        *,
        use_tqdm: UseTqdm = True,
        lora_request: None = None,
        pooling_task: PoolingTask | None = None,
        priority: int | Sequence[int] | None = None,
        tokenization_kwargs: Mapping[str, Any] | None = None,
    ) -> list[Pooled]:
        """Pool prompts.

        Args:
            prompts: see `LLM.generate`; a pair of texts is one prompt of a classifier of pairs. A single `DataPrompt` goes through
                an IO Processor plugin, and gives one output whose `outputs` is the plugin's.
            pooling_params: for all, or one for each; None = the defaults.
            use_tqdm: see `LLM.generate`.
            lora_request: must be None.
            pooling_task: what to pool for, where the parameters do not say; None = what the model is for.
            priority: see `LLM.generate`.
            tokenization_kwargs: `truncate_prompt_tokens` and `truncation_side`.

        Raises:
            ValidationError: a prompt or parameter is not allowed, or the model does not pool.
            EngineDeadError: the engine is gone.
        """
        check_arguments("encode", {"lora_request": lora_request})
        if is_data(prompts):
            return self._plugin_output(prompts, pooling_params, priority, pooling_task)
        listed = as_prompts(prompts)
        given = one_each("pooling_params", PoolingParams() if pooling_params is None else pooling_params, len(listed))
        ranks = one_each("priority", 0 if priority is None else priority, len(listed))
        jobs = [
            PoolingJob(prompt, with_tokenization(_with_task(params, pooling_task), tokenization_kwargs), self._next_id(), rank)
            for prompt, params, rank in zip(listed, given, ranks, strict=True)
        ]
        with BatchBar(len(jobs), use_tqdm) as bar:
            outputs: list[Pooled] = self._call(run_batch(self._async_llm, jobs, "raise", bar.update_pooled), bar.show)
        return outputs

    def _plugin_output(self, prompt: Mapping[str, Any], params: Any, priority: Any, task: str | None) -> list[Any]:
        """What an IO Processor plugin makes of one prompt with data."""
        (given,), (rank,) = one_each("params", params, 1), one_each("priority", priority or 0, 1)
        engine = self._async_llm
        output = engine.io_processors.output(
            engine, prompt, self._next_id(), params=given, priority=rank, task=task, alone=True
        )
        return [self._call(output)]

    def embed(self, prompts: Prompts, *, pooling_params: ManyParams = None, **options: Any) -> list[EmbeddingRequestOutput]:
        """One vector per prompt. Options and errors: see `encode`."""
        outputs = self.encode(prompts, pooling_params, pooling_task="embed", **options)
        return [EmbeddingRequestOutput.from_base(output) for output in outputs]

    def classify(
        self, prompts: Prompts, *, pooling_params: ManyParams = None, **options: Any
    ) -> list[ClassificationRequestOutput]:
        """One number per class and prompt. Options and errors: see `encode`."""
        outputs = self.encode(prompts, pooling_params, pooling_task="classify", **options)
        return [ClassificationRequestOutput.from_base(output) for output in outputs]

    def reward(self, prompts: Prompts, /, *, pooling_params: ManyParams = None, **options: Any) -> list[Pooled]:
        """What a reward model says of each prompt: of the whole, or of each token. Options and errors: see `encode`."""
        return self.encode(prompts, pooling_params, **options)

    def score(
        self,
        data_1: str | Sequence[str],
        data_2: str | Sequence[str],
        /,
        *,
        pooling_params: PoolingParams | None = None,
        **options: Any,
    ) -> list[ScoringRequestOutput]:
        """How well texts fit each other: what a classifier of pairs says, or the cosine of two embeddings.

        Args:
            data_1: one text, for all of `data_2`, or as many as there.
            data_2: texts.
            pooling_params: for all pairs.
            options: see `encode`.

        Raises:
            ValidationError: the lists do not fit, the model neither embeds nor gives one number per pair, or see `encode`.
        """
        pairs = paired(_as_texts("data_1", data_1), _as_texts("data_2", data_2))
        if "embed" in self.supported_pooling_tasks:
            return self._score_embeddings(*pairs, pooling_params, options)
        prompts: Any = list(zip(*pairs, strict=True))
        outputs = self.encode(prompts, pooling_params, pooling_task="classify", **options)
        return [ScoringRequestOutput.from_base(output) for output in outputs]

    def _score_embeddings(
        self, first: list[str], second: list[str], params: PoolingParams | None, options: Mapping[str, Any]
    ) -> list[ScoringRequestOutput]:
        """Each different text is embedded once."""
        texts = list(dict.fromkeys([*first, *second]))
        found = dict(zip(texts, self.encode(texts, params, pooling_task="embed", **options), strict=True))
        scored = []
        for one, other in zip(first, second, strict=True):
            a, b = found[one], found[other]
            score = ScoringOutput(cosine(a.outputs.data, b.outputs.data))
            scored.append(ScoringRequestOutput(a.request_id, score, a.prompt_token_ids + b.prompt_token_ids))
        return scored


def _with_task(params: PoolingParams, task: PoolingTask | None) -> PoolingParams:
    """The parameters for a task.

    Raises:
        ValidationError: they are for another one.
    """
    if task is None or not isinstance(params, PoolingParams):
        return params
    if params.task not in (None, task):
        message = f"pooling_params are for the task {params.task!r}, and pooling_task is {task!r}."
        raise ValidationError(message, parameter="pooling_task", value=task)
    params = params.clone()
    params.task = task
    return params


def _as_texts(name: str, data: Any) -> list[str]:
    texts = [data] if isinstance(data, str) else list(data)
    if not all(isinstance(text, str) for text in texts):
        raise ValidationError(f"{name} must be a text or a list of texts.", parameter=name)
    return texts
