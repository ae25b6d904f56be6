"""`POST /v1/completions`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from octavo.config import EngineConfig
from octavo.errors import ValidationError
from octavo.frontend import heap
from octavo.frontend.server.best_of import best_completions, check_best_of
from octavo.frontend.server.body import read_body
from octavo.frontend.server.completions.choices import ChoiceMaker
from octavo.frontend.server.completions.protocol import (
    COMPLETION_BODY,
    DEFAULT_MAX_TOKENS,
    CompletionChoice,
    CompletionRequest,
    CompletionResponse,
)
from octavo.frontend.server.completions.stream import CompletionStream
from octavo.frontend.server.generation import Generation, answer_weight, check_repetition, token_spelling
from octavo.frontend.server.options import ServerOptions
from octavo.frontend.server.per_request_metrics import per_request_metrics
from octavo.frontend.server.prompts import engine_prompts, split_prompts
from octavo.frontend.server.record import RECORD
from octavo.frontend.server.responses import encoded, json_bytes_response
from octavo.frontend.server.sampling import named_by_client, sampling_params, weight
from octavo.frontend.server.state import STATE
from octavo.frontend.server.streaming import stream_response
from octavo.frontend.server.usage import UsageCounter
from octavo.outputs import RequestOutput
from octavo.params import SamplingParams

if TYPE_CHECKING:
    from octavo.frontend.async_llm import AsyncLLM

MAX_PROMPTS = 1024


async def completions(request: web.Request) -> web.StreamResponse:
    """Continue one or several prompts."""
    state = request.app[STATE]
    state.check_accepting()
    body = await read_body(request, COMPLETION_BODY)
    with state.admit() as engine:
        model = state.check_model(body.model)
        pool = engine.input_processor.texts
        prompts = await pool.run(len(body.prompt), split_prompts, "prompt", body.prompt, MAX_PROMPTS)
        with named_by_client({"prompt_token_ids": "prompt", **({"n": "best_of"} if body.best_of is not None else {})}):
            params = await pool.run(weight(body), completion_params, body, engine.config)
            add = body.add_special_tokens is not False
            inputs = await engine_prompts(engine, body, prompts, add_special_tokens=add, max_tokens=params.max_tokens)
            generation = Generation(state, request[RECORD], "cmpl-", body, model, inputs, params)
            texts = [await echo_text(engine, prompt) for prompt in prompts] if body.echo else []
            check_repetition("echoed text", sum(map(len, texts)), params.n)
            spelling = token_spelling(body, engine, state.options)
            maker = ChoiceMaker(body, params, engine.tokenizer, spelling, texts, _num_answered(body))
            if body.stream:
                encoder = CompletionStream(body, generation, state.options, maker)
                return await stream_response(request, engine, generation, encoder)
            outputs = await generation.final_outputs(engine)
        size = answer_weight(outputs, params)
        answer = await pool.run(size, lambda: encoded(completion_response(body, generation, outputs, state.options, maker)))
        num_ids = sum(len(output.prompt_token_ids or ()) for output in outputs)
        await pool.run(num_ids, heap.let_go, outputs, inputs)
        return json_bytes_response(answer)


def completion_params(body: CompletionRequest, config: EngineConfig) -> SamplingParams:
    """The sampling parameters of a completion request.

    Raises:
        ValidationError: a value out of range.
    """
    logprobs, prompt_logprobs = body.logprobs, body.prompt_logprobs
    if logprobs is not None and logprobs < 0:
        raise ValidationError(f"logprobs must be at least 0, got {logprobs}.", parameter="logprobs", value=logprobs)
    if body.logprob_token_ids and logprobs is None:
        raise ValidationError("logprob_token_ids needs logprobs.", parameter="logprob_token_ids")
    if body.echo and logprobs is not None and prompt_logprobs is None:
        prompt_logprobs = logprobs
    if body.echo and logprobs is not None and body.stream and (body.n or 1) > 1:
        raise ValidationError("echo with logprobs cannot be streamed for n > 1.", parameter="echo")
    max_tokens = DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    if body.echo and max_tokens == 0:
        max_tokens = 1
    num_made = check_best_of(body.best_of, body.n, bool(body.stream))
    if body.best_of is not None and logprobs is None:
        logprobs = 0
    return sampling_params(body, config, max_tokens=max_tokens, logprobs=logprobs, prompt_logprobs=prompt_logprobs, n=num_made)


def _num_answered(body: CompletionRequest) -> int:
    """Choices a prompt in the answer; `best_of` makes more and keeps these."""
    return body.n if body.n is not None else 1


async def echo_text(engine: AsyncLLM, prompt: str | list[int]) -> str:
    """The prompt as `echo` repeats it.

    Raises:
        ValidationError: it holds what is no token id.
    """
    if isinstance(prompt, str):
        return prompt
    texts = engine.input_processor.texts
    await texts.run(len(prompt), engine.input_processor.check_ids, "prompt", prompt)
    return await texts.decode(prompt)


def completion_response(
    body: CompletionRequest, generation: Generation, outputs: list[RequestOutput], options: ServerOptions, maker: ChoiceMaker
) -> CompletionResponse:
    """The whole answer, not streamed; choices are ordered by prompt, then by sequence."""
    n = _num_answered(body)
    usage = UsageCounter(options.enable_prompt_tokens_details)
    choices: list[CompletionChoice] = []
    for output in outputs:
        usage.add_prompt(output)
        usage.completion_tokens += sum(map(maker.num_generated, output.outputs))
        choices += [maker.choice(len(choices) + i, output, best) for i, best in enumerate(best_completions(output, n))]
    record = generation.record
    with_metrics = options.enable_per_request_metrics and generation.num_sequences == 1 and record.metrics is not None
    return CompletionResponse(
        id=generation.id,
        object="text_completion",
        created=generation.created,
        model=generation.model,
        choices=choices,
        usage=usage.usage(),
        system_fingerprint=generation.fingerprint,
        metrics=per_request_metrics(record.metrics) if with_metrics and record.metrics else None,
    )
