"""One HTTP request's work in the engine: its prompts, its parameters, its outputs as they come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING
from uuid import uuid4

from octavo.errors import ValidationError
from octavo.frontend.collector import OutputSink
from octavo.frontend.server.fields import GenerationFields
from octavo.frontend.server.logprobs import TokenSpelling
from octavo.frontend.server.options import ServerOptions
from octavo.frontend.server.record import RequestRecord
from octavo.frontend.server.state import ServerState
from octavo.inputs import PromptType
from octavo.outputs import RequestOutput
from octavo.params import MAX_N, SamplingParams

if TYPE_CHECKING:
    from octavo.frontend.async_llm import AsyncLLM

MAX_COPIED_IDS = 4_000_000
"""Ids that one request may send to the core in its parameters, over all its sequences (about 20 MB)."""

MAX_REPEATED_CHARS = 32_000_000
"""Characters of its prompts that an answer may repeat."""
_STARTED_PER_TURN = 64
"""Prompts of one request that are given to the engine before the event loop sees to others (about 10 ms)."""

Outputs = AsyncGenerator[tuple[int, RequestOutput], None]
"""(index of the prompt, what is new of it)"""


class Generation:
    """A request to the model, ready to run.

    Attributes:
        id: the id in the answer.
        created: Unix seconds.
        model: the name to answer with.
        fingerprint: `system_fingerprint` of the answer.
        num_prompts: the engine's requests.
        num_sequences: choices that the engine makes, over all prompts.
    """

    def __init__(
        self,
        state: ServerState,
        record: RequestRecord,
        prefix: str,
        body: GenerationFields,
        model: str,
        prompts: list[PromptType],
        params: SamplingParams,
    ) -> None:
        self.id = record.answer_id(prefix, body.request_id)
        self.created = int(time.time())
        self.model = model
        self.fingerprint = state.fingerprint
        self.params = params
        self.record = record
        self.num_prompts = len(prompts)
        self.num_sequences = len(prompts) * params.n
        if self.num_sequences > MAX_N:
            raise ValidationError(f"prompts times n may be at most {MAX_N}, got {self.num_sequences}.", parameter="n")
        self._check_size(params)
        self._state = state
        self._prompts = prompts
        self._priority = body.priority or 0
        self._timeout = state.options.time_limit(body.timeout)

    def _check_size(self, params: SamplingParams) -> None:
        """Each sequence takes a copy of the lists in its parameters to the core."""
        lists = (params.logit_bias, params.allowed_token_ids, params.stop_token_ids, params.logprob_token_ids)
        copied = self.num_sequences * sum(map(len, filter(None, lists)))
        if copied > MAX_COPIED_IDS:
            message = f"token ids in the parameters times prompts times n may be at most {MAX_COPIED_IDS}, got {copied}."
            raise ValidationError(message, parameter="n", value=params.n)

    async def outputs(self, engine: AsyncLLM, sink: OutputSink | None = None) -> Outputs:
        """Run all prompts; closing the generator aborts what has not ended.

        Args:
            sink: takes outputs as `AsyncLLM.generate` says, where there is one prompt: several are put in order here.

        Raises:
            ValidationError, QueueFullError, RequestTimeoutError, RequestFailedError, EngineDeadError: as `AsyncLLM.generate`.
        """
        unique = f"{self.id}-{uuid4().hex[:8]}"
        ids = [f"{unique}-{index}" for index in range(len(self._prompts))]
        sink = sink if len(ids) == 1 else None
        streams = [
            engine.generate(
                prompt,
                self.params,
                request_id,
                priority=self._priority,
                timeout=self._timeout,
                sink=sink,
                counts=self.record.counts,
            )
            for prompt, request_id in zip(self._prompts, ids, strict=True)
        ]
        with self._state.active(ids):
            if len(streams) == 1:
                async with aclosing(streams[0]) as stream:
                    async for output in stream:
                        self.record.saw(output)
                        yield 0, output
                return
            async with aclosing(merged(streams)) as both:
                async for index, output in both:
                    self.record.saw(output)
                    yield index, output

    async def final_outputs(self, engine: AsyncLLM) -> list[RequestOutput]:
        """Run all prompts to the end; one output a prompt, in order."""
        async with aclosing(self.outputs(engine)) as outputs:
            finals = {index: output async for index, output in outputs}
        return [finals[index] for index in range(len(self._prompts))]


async def merged(streams: list[AsyncGenerator[RequestOutput, None]]) -> Outputs:
    """The items of several streams as they come; the first failure ends them all."""
    # One place a stream: a slow reader makes each stream wait, and the engine merges what comes meanwhile.
    queue: asyncio.Queue[tuple[int, RequestOutput | BaseException | None]] = asyncio.Queue(len(streams))
    tasks: list[asyncio.Task[None]] = []

    async def start() -> None:
        for index, stream in enumerate(streams):
            tasks.append(asyncio.create_task(_pump(index, stream, queue)))
            if index % _STARTED_PER_TURN == _STARTED_PER_TURN - 1:
                await asyncio.sleep(0)

    starter = asyncio.create_task(start())
    running = len(streams)
    try:
        while running:
            index, item = await queue.get()
            if item is None:
                running -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield index, item
    finally:
        starter.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(starter, *tasks, return_exceptions=True)


async def _pump(
    index: int,
    stream: AsyncGenerator[RequestOutput, None],
    queue: asyncio.Queue[tuple[int, RequestOutput | BaseException | None]],
) -> None:
    """Move one stream's items into the queue, then None, or the exception that ended it."""
    end: BaseException | None = None
    async with aclosing(stream):
        try:
            async for output in stream:
                await queue.put((index, output))
        except Exception as error:  # noqa: BLE001  (raised again by `merged`)
            end = error
    await queue.put((index, end))


def token_spelling(body: GenerationFields, engine: AsyncLLM, options: ServerOptions) -> TokenSpelling:
    """How the answer to `body` writes tokens in logprobs."""
    as_ids = options.return_tokens_as_token_ids if body.return_tokens_as_token_ids is None else body.return_tokens_as_token_ids
    return TokenSpelling(engine.tokenizer, as_ids)


def check_repetition(what: str, size: int, num_sequences: int, limit: int = MAX_REPEATED_CHARS) -> None:
    """Refuse an answer that would repeat a text for each of very many sequences.

    Args:
        what: what is repeated, for the message.
        size: its characters.
        num_sequences: how often it is.
        limit: characters allowed.

    Raises:
        ValidationError: they are more.
    """
    if size * num_sequences > limit:
        message = f"{what} times n may come to at most {limit} characters, got {size} times {num_sequences}."
        raise ValidationError(message, parameter="n", value=num_sequences)


def answer_weight(outputs: list[RequestOutput], params: SamplingParams) -> int:
    """Values in a whole answer: what writing it goes over, one by one."""
    top, prompt_top = params.logprobs or 0, params.prompt_logprobs
    generated = sum(len(one.token_ids) + 1 for output in outputs for one in output.outputs)
    scored = 0 if prompt_top is None else sum(len(output.prompt_token_ids) for output in outputs) * (1 + max(0, prompt_top))
    return generated * (1 + max(0, top)) + scored
