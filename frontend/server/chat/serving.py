"""`POST /v1/chat/completions`."""

from __future__ import annotations

from aiohttp import web

from octavo.config import EngineConfig
from octavo.errors import ValidationError
from octavo.frontend.server.body import read_body
from octavo.frontend.server.chat.logprobs import chat_logprobs
from octavo.frontend.server.chat.prompt import chat_prompt, check_template_rules, text_of
from octavo.frontend.server.chat.protocol import CHAT_BODY, AnswerMessage, ChatChoice, ChatRequest, ChatResponse
from octavo.frontend.server.chat.stream import ChatStream
from octavo.frontend.server.generation import Generation, answer_weight, check_repetition, token_spelling
from octavo.frontend.server.logprobs import TokenSpelling, num_shown, shown_prompt_logprobs
from octavo.frontend.server.options import ServerOptions
from octavo.frontend.server.per_request_metrics import per_request_metrics
from octavo.frontend.server.record import RECORD
from octavo.frontend.server.responses import encoded, json_bytes_response
from octavo.frontend.server.sampling import named_by_client, sampling_params, weight
from octavo.frontend.server.state import STATE
from octavo.frontend.server.streaming import stream_response
from octavo.frontend.server.usage import UsageCounter
from octavo.outputs import CompletionOutput, RequestOutput
from octavo.params import SamplingParams

_CLIENT_NAMES = {"logprobs": "top_logprobs", "prompt": "messages", "prompt_token_ids": "messages"}


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """Answer a conversation."""
    state = request.app[STATE]
    state.check_accepting()
    body = await read_body(request, CHAT_BODY)
    with state.admit() as engine:
        model = state.check_model(body.model)
        check_rules(body, state.options)
        with named_by_client(_client_names(body)):
            params = await engine.input_processor.texts.run(weight(body), chat_params, body, engine.config)
            prompt = await chat_prompt(engine, state.options, body, params.max_tokens)
            generation = Generation(state, request[RECORD], "chatcmpl-", body, model, [prompt], params)
            spelling = token_spelling(body, engine, state.options)
            check_repetition("echoed text", len(answer_role(body, state.options)[1]), params.n)
            if body.stream:
                encoder = ChatStream(body, generation, state.options, spelling, *answer_role(body, state.options))
                return await stream_response(request, engine, generation, encoder)
            [output] = await generation.final_outputs(engine)
        texts, size = engine.input_processor.texts, answer_weight([output], params)
        return json_bytes_response(
            await texts.run(size, lambda: encoded(chat_response(body, generation, output, state.options, spelling)))
        )


def _client_names(body: ChatRequest) -> dict[str, str]:
    return _CLIENT_NAMES if body.max_completion_tokens is None else {**_CLIENT_NAMES, "max_tokens": "max_completion_tokens"}


def check_rules(body: ChatRequest, options: ServerOptions) -> None:
    """Rules between the chat endpoint's fields.

    Raises:
        ValidationError: naming the field.

    """
    check_template_rules(body, options)
    if body.top_logprobs and not body.logprobs:
        raise ValidationError("top_logprobs needs logprobs=true.", parameter="top_logprobs", value=body.top_logprobs)
    if body.top_logprobs is not None and body.top_logprobs < -1:
        raise ValidationError(f"top_logprobs must be at least -1, got {body.top_logprobs}.", parameter="top_logprobs")
    if body.logprob_token_ids and not body.logprobs:
        raise ValidationError("logprob_token_ids needs logprobs=true.", parameter="logprob_token_ids")
    _check_tools(body)


def _check_tools(body: ChatRequest) -> None:
    if body.tool_choice not in (None, "none") and not body.tools:
        raise ValidationError("tool_choice needs tools.", parameter="tool_choice", value=body.tool_choice)
    if body.tools and body.tool_choice != "none":
        raise ValidationError(
            'tools need tool_choice="none" in this version: it shows them to the model but does not parse calls.',
            parameter="tools",
        )


def chat_params(body: ChatRequest, config: EngineConfig) -> SamplingParams:
    """The sampling parameters of a chat request."""
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    return sampling_params(body, config, max_tokens=limit, logprobs=logprobs)


def answer_role(body: ChatRequest, options: ServerOptions) -> tuple[str, str]:
    """The answer's role, and the text to put before it (`echo`)."""
    last = body.messages[-1]
    goes_on = body.add_generation_prompt is False or body.continue_final_message
    role = last["role"] if goes_on else options.response_role
    return role, text_of(last) if body.echo and last["role"] == role else ""


def chat_response(
    body: ChatRequest, generation: Generation, output: RequestOutput, options: ServerOptions, spelling: TokenSpelling
) -> ChatResponse:
    """The whole answer, not streamed."""
    usage = UsageCounter(options.enable_prompt_tokens_details)
    usage.add_prompt(output)
    usage.completion_tokens = sum(len(choice.token_ids) for choice in output.outputs)
    role, echoed = answer_role(body, options)
    with_metrics = options.enable_per_request_metrics and len(output.outputs) == 1 and output.metrics is not None
    return ChatResponse(
        id=generation.id,
        object="chat.completion",
        created=generation.created,
        model=generation.model,
        choices=[_choice(body, choice, role, echoed, spelling) for choice in output.outputs],
        usage=usage.usage(),
        system_fingerprint=generation.fingerprint,
        prompt_logprobs=shown_prompt_logprobs(output.prompt_logprobs),
        prompt_token_ids=output.prompt_token_ids if body.return_token_ids else None,
        metrics=per_request_metrics(output.metrics) if with_metrics and output.metrics else None,
    )


def _choice(body: ChatRequest, choice: CompletionOutput, role: str, echoed: str, spelling: TokenSpelling) -> ChatChoice:
    logprobs = None
    num_top = num_shown(body.top_logprobs or 0, body.logprob_token_ids)
    if body.logprobs and choice.logprobs is not None:
        logprobs = chat_logprobs(choice.token_ids, choice.logprobs, num_top, spelling)
    return ChatChoice(
        index=choice.index,
        message=AnswerMessage(role, echoed + choice.text),
        logprobs=logprobs,
        finish_reason=choice.finish_reason,
        stop_reason=choice.stop_reason,
        token_ids=choice.token_ids if body.return_token_ids else None,
    )
