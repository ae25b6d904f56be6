"""`POST /classify`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiohttp import web

from octavo.frontend.server.body import read_body
from octavo.frontend.server.classify.protocol import CLASSIFY_BODY, Classification
from octavo.frontend.server.pooling.numbers import Floats, shortest
from octavo.frontend.server.pooling.prompts import pooled_inputs
from octavo.frontend.server.pooling.running import PoolingRun, work_of
from octavo.frontend.server.pooling.vectors import CHARACTERS_PER_RESULT, ListAnswer
from octavo.frontend.server.record import RECORD
from octavo.frontend.server.responses import encoded, json_bytes_response
from octavo.frontend.server.state import STATE
from octavo.frontend.server.tasks import check_pooling
from octavo.frontend.server.usage import Usage
from octavo.pooling_params import PoolingParams


async def classify(request: web.Request) -> web.StreamResponse:
    """The class of each input."""
    state = request.app[STATE]
    check_pooling(state.check_accepting(), "Classification", "classify")
    body = await read_body(request, CLASSIFY_BODY)
    with state.admit() as engine:
        model = state.check_model(body.model)
        params = PoolingParams(task="classify", use_activation=body.use_activation)
        inputs = await pooled_inputs(engine, state.options, body)
        run = PoolingRun(state, request[RECORD], "classify-", body, model, params)
        arrays, usage = await run.arrays(engine, inputs)
        labels = engine.config.model.hf_config.get("id2label")
        size = CHARACTERS_PER_RESULT * len(arrays) + work_of(arrays)
        answer = await engine.input_processor.texts.run(size, _answer, run, arrays, usage, labels)
        return json_bytes_response(answer)


def _answer(run: PoolingRun, arrays: list[Floats], usage: Usage, labels: Any) -> bytes:
    data = [classification(index, array.reshape(-1), labels) for index, array in enumerate(arrays)]
    return encoded(ListAnswer(run.id, run.created, run.model, data, usage))


def classification(index: int, probs: Floats, labels: Any) -> Classification:
    """The entry of one input.

    Args:
        index: of the input.
        probs: float32 [classes].
        labels: `id2label` of config.json: names by class, as texts or numbers.
    """
    best = int(np.argmax(probs))
    name = labels.get(str(best), labels.get(best)) if isinstance(labels, Mapping) else f"LABEL_{best}"
    return Classification(index, name if isinstance(name, str) else None, shortest(probs), len(probs))
