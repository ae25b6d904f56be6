"""`POST /v2/embed`."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from octavo.errors import ValidationError
from octavo.frontend.server.body import read_body
from octavo.frontend.server.cohere_embed.protocol import EMBED_BODY, EmbedAnswer, EmbedMeta, EmbedRequest
from octavo.frontend.server.cohere_embed.purposes import prompt_for
from octavo.frontend.server.cohere_embed.types import written
from octavo.frontend.server.pooling.fields import PoolingFields
from octavo.frontend.server.pooling.numbers import Floats
from octavo.frontend.server.pooling.prompts import MAX_INPUTS, Inputs, tokenized_inputs
from octavo.frontend.server.pooling.running import PoolingRun, work_of
from octavo.frontend.server.record import RECORD
from octavo.frontend.server.responses import encoded, json_bytes_response
from octavo.frontend.server.sampling import named_by_client
from octavo.frontend.server.score.texts import part_text
from octavo.frontend.server.state import STATE
from octavo.frontend.server.tasks import check_pooling
from octavo.frontend.server.usage import Usage
from octavo.pooling_params import PoolingParams


async def embed(request: web.Request) -> web.StreamResponse:
    """A vector for each text, in each type that is asked for."""
    state = request.app[STATE]
    check_pooling(state.check_accepting(), "Embeddings", "embed")
    body = await read_body(request, EMBED_BODY)
    with state.admit() as engine:
        model = state.check_model(body.model)
        names, texts = input_texts(body)
        with named_by_client({"dimensions": "output_dimension"}):
            params = PoolingParams(task="embed", dimensions=body.output_dimension)
            fields = pooling_fields(body)
            cuts = body.truncate != "NONE"
            prompt = prompt_for(body.input_type, state.text_prompts)
            prompted = [prompt + text for text in texts] if prompt else texts
            inputs = await tokenized_inputs(engine, fields, prompted, names, at_most=body.max_tokens if cuts else None)
            if body.max_tokens is not None:
                check_max_tokens(inputs, body.max_tokens)
            run = PoolingRun(state, request[RECORD], "embd-", fields, model, params)
            arrays, usage = await run.arrays(engine, inputs)
        size = work_of(arrays) * len(body.embedding_types or "f") + sum(map(len, texts)) // 10
        return json_bytes_response(
            await engine.input_processor.texts.run(size, lambda: encoded(embed_answer(body, run.id, texts, arrays, usage)))
        )


def input_texts(body: EmbedRequest) -> tuple[list[str], list[str]]:
    """What errors call the texts, and the texts, from whichever field has them.

    Raises:
        ValidationError: no field has them, or both, or they are too many.
    """
    if (body.texts is None) == (body.inputs is None):
        raise ValidationError("give either texts or inputs.", parameter="texts")
    name, number = ("texts", len(body.texts)) if body.texts is not None else ("inputs", len(body.inputs or ()))
    if not 1 <= number <= MAX_INPUTS:
        raise ValidationError(f"{name} must hold 1 to {MAX_INPUTS} texts, got {number}.", parameter=name, value=number)
    names = [f"{name}[{index}]" for index in range(number)]
    if body.texts is not None:
        return names, body.texts
    return names, [_joined(where, one.content) for where, one in zip(names, body.inputs or (), strict=True)]


def pooling_fields(body: EmbedRequest) -> PoolingFields:
    """The fields that other endpoints have too, by their names there."""
    return PoolingFields(
        model=body.model,
        truncate_prompt_tokens=None if body.truncate == "NONE" else -1,
        truncation_side="left" if body.truncate == "START" else "right",
        priority=body.priority,
        request_id=body.request_id,
        cache_salt=body.cache_salt,
        timeout=body.timeout,
    )


def check_max_tokens(inputs: Inputs, most: int) -> None:
    """Refuse texts that are longer, where they are not to be cut.

    Raises:
        ValidationError: naming the text.
    """
    for name, prompt in zip(inputs.names, inputs.prompts, strict=True):
        number = len(prompt["prompt_token_ids"])
        if number > most:
            message = f'{name} has {number} tokens, more than max_tokens ({most}), and truncate is "NONE".'
            raise ValidationError(message, parameter=name, value=number)


def embed_answer(body: EmbedRequest, answer_id: str, texts: list[str], arrays: list[Floats], usage: Usage) -> EmbedAnswer:
    """The whole answer."""
    kinds = dict.fromkeys(body.embedding_types or ("float",))
    vectors: dict[str, list[Any]] = {kind: [written(array, kind) for array in arrays] for kind in kinds}
    return EmbedAnswer(answer_id, vectors, texts, EmbedMeta({"input_tokens": usage.prompt_tokens}))


def _joined(name: str, content: list[dict[str, object]]) -> str:
    if not content:
        raise ValidationError(f"{name}.content must not be empty.", parameter=f"{name}.content", value=[])
    return "\n".join(part_text(f"{name}.content[{index}]", part) for index, part in enumerate(content))
