"""`POST /pooling`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from aiohttp import web
from msgspec import UNSET

from octavo.errors import RequestTimeoutError, ValidationError
from octavo.frontend.server.body import read_body
from octavo.frontend.server.pooling.prompts import pooled_inputs
from octavo.frontend.server.pooling.protocol import POOLING_BODY, PooledData, PoolingRequest
from octavo.frontend.server.pooling.running import PoolingRun, work_of
from octavo.frontend.server.pooling.vectors import check_form, vectors_response
from octavo.frontend.server.record import RECORD
from octavo.frontend.server.state import STATE, ServerState
from octavo.frontend.server.tasks import check_pooling
from octavo.pooling_params import PoolingParams, PoolingTask

if TYPE_CHECKING:
    from octavo.frontend.async_llm import AsyncLLM

NO_PLUGIN = "No IOProcessor plugin installed. Start the server with --io-processor-plugin NAME to answer requests with data."
_DEFAULTS = ("token_embed", "token_classify", "plugin")
"""What a request without a task means: the first of these that the model has, else the first that it has."""
_REMOVED = {"encode": "token_embed", "score": "classify"}


async def pooling(request: web.Request) -> web.StreamResponse:
    """What a model or a plugin makes of each input."""
    state = request.app[STATE]
    if state.plugins is None:
        check_pooling(state.check_accepting(), "Pooling")
    state.check_accepting()
    body = await read_body(request, POOLING_BODY)
    with state.admit() as engine:
        model = state.check_model(body.model)
        if body.data is not UNSET:
            return await _plugin_answer(request, state, engine, body)
        check_pooling(engine, "Pooling")
        params = PoolingParams(task=task_of(body, engine.supported_pooling_tasks), use_activation=body.use_activation)
        inputs = await pooled_inputs(engine, state.options, body)
        check_form(body, len(inputs.prompts))
        run = PoolingRun(state, request[RECORD], "pooling-", body, model, params)
        arrays, usage = await run.arrays(engine, inputs)
        return await engine.input_processor.texts.run(work_of(arrays), vectors_response, run, body, arrays, usage, PooledData)


def task_of(body: PoolingRequest, supported: tuple[str, ...]) -> PoolingTask:
    """The task that a request without `data` means.

    Raises:
        ValidationError: the model has it not.
    """
    task = body.task
    if task is None:
        task = next((one for one in _DEFAULTS if one in supported), supported[0])
    if task in _REMOVED:
        message = f"Unsupported task: {task!r} was removed; use {_REMOVED[task]!r}."
        raise ValidationError(message, parameter="task", value=task)
    if task not in supported:
        message = (
            f"Unsupported task: {task[:100]!r}; the model is served for {', '.join(supported)} (--runner pooling, --convert)."
        )
        raise ValidationError(message, parameter="task", value=task)
    return cast(PoolingTask, task)


async def _plugin_answer(request: web.Request, state: ServerState, engine: AsyncLLM, body: PoolingRequest) -> web.Response:
    if body.input is not None or body.messages is not None:
        raise ValidationError("give either data, or input, or messages.", parameter="data")
    if state.plugins is None:
        raise ValidationError(NO_PLUGIN, parameter="data")
    limit = state.options.time_limit(body.timeout)
    try:
        async with asyncio.timeout(limit):
            answer = await state.plugins.answer(engine, body, request[RECORD].answer_id("pooling-", body.request_id))
    except TimeoutError:
        raise RequestTimeoutError(f"the request took more than {limit:g} s") from None
    return web.Response(body=answer.body, content_type="application/json", headers=answer.headers)
