"""`POST /v1/embeddings`."""

from __future__ import annotations

from aiohttp import web

from octavo.frontend.server.body import read_body
from octavo.frontend.server.embeddings.protocol import EMBEDDING_BODY, Embedding, EmbeddingRequest
from octavo.frontend.server.pooling.prompts import pooled_inputs
from octavo.frontend.server.pooling.running import PoolingRun, work_of
from octavo.frontend.server.pooling.vectors import check_form, vectors_response
from octavo.frontend.server.record import RECORD
from octavo.frontend.server.state import STATE
from octavo.frontend.server.tasks import check_pooling
from octavo.pooling_params import PoolingParams


async def embeddings(request: web.Request) -> web.StreamResponse:
    """A vector for each input."""
    state = request.app[STATE]
    check_pooling(state.check_accepting(), "Embeddings", "embed")
    body = await read_body(request, EMBEDDING_BODY)
    with state.admit() as engine:
        model = state.check_model(body.model)
        params = embedding_params(body)
        inputs = await pooled_inputs(engine, state.options, body)
        check_form(body, len(inputs.prompts))
        run = PoolingRun(state, request[RECORD], "embd-", body, model, params)
        arrays, usage = await run.arrays(engine, inputs)
        return await engine.input_processor.texts.run(work_of(arrays), vectors_response, run, body, arrays, usage, Embedding)


def embedding_params(body: EmbeddingRequest) -> PoolingParams:
    """The pooling parameters of a request; its prompts are cut already.

    Raises:
        ValidationError: a value out of range.
    """
    return PoolingParams(task="embed", dimensions=body.dimensions, use_activation=body.use_activation)
