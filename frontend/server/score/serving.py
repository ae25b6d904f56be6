"""`POST /score` and `POST /rerank`, under all their paths."""

from __future__ import annotations

import math

import numpy as np
from aiohttp import web

from octavo.frontend.server.body import read_body
from octavo.frontend.server.pooling.numbers import shortest
from octavo.frontend.server.pooling.vectors import CHARACTERS_PER_RESULT, ListAnswer
from octavo.frontend.server.responses import encoded, json_bytes_response
from octavo.frontend.server.score.protocol import (
    RERANK_BODY,
    SCORE_BODY,
    Document,
    RerankAnswer,
    RerankMeta,
    RerankRequest,
    RerankResult,
    Score,
)
from octavo.frontend.server.score.scoring import TASKS, Scores, scores, scoring_task
from octavo.frontend.server.score.texts import Pairs, rerank_pairs, score_pairs
from octavo.frontend.server.state import STATE
from octavo.frontend.server.tasks import check_pooling, not_supported

_DOCUMENTS_PER_UNIT = 100
"""Cohere counts a search a hundred documents."""


async def score(request: web.Request) -> web.StreamResponse:
    """A number for each pair of texts: the larger, the better they go together."""
    state = request.app[STATE]
    _check_scoring(request, "Score")
    body = await read_body(request, SCORE_BODY)
    with state.admit() as engine:
        model = state.check_model(body.model)
        pairs = score_pairs(body)
        scored = await scores(request, "score-", body, model, pairs, engine)
        size = CHARACTERS_PER_RESULT * len(scored.values)
        return json_bytes_response(await engine.input_processor.texts.run(size, lambda: encoded(score_answer(scored))))


async def rerank(request: web.Request) -> web.StreamResponse:
    """Documents in the order of how well they go with a query."""
    state = request.app[STATE]
    _check_scoring(request, "Rerank")
    body = await read_body(request, RERANK_BODY)
    with state.admit() as engine:
        model = state.check_model(body.model)
        pairs = rerank_pairs(body)
        scored = await scores(request, "rerank-", body, model, pairs, engine)
        size = CHARACTERS_PER_RESULT * len(scored.values) + sum(map(len, pairs.documents.texts)) // CHARACTERS_PER_RESULT
        texts = engine.input_processor.texts
        return json_bytes_response(await texts.run(size, lambda: encoded(rerank_answer(body, pairs, scored))))


def score_answer(scored: Scores) -> ListAnswer:
    """The scores, in the order of the pairs."""
    data = [Score(index, value) for index, value in enumerate(shortest(scored.values))]
    return ListAnswer(scored.run.id, scored.run.created, scored.run.model, data, scored.usage)


def rerank_answer(body: RerankRequest, pairs: Pairs, scored: Scores) -> RerankAnswer:
    """The documents' places; of two with one score the first one goes first."""
    values = shortest(scored.values)
    order = np.argsort(-scored.values, kind="stable").tolist()[: body.top_n or None]
    results = [RerankResult(index, values[index]) for index in order]
    if body.return_documents is not False:
        for result in results:
            result.document = Document(pairs.documents.texts[result.index])
    units = math.ceil(len(values) / _DOCUMENTS_PER_UNIT)
    meta = RerankMeta({"search_units": units}, {"input_tokens": scored.usage.prompt_tokens})
    return RerankAnswer(scored.run.id, scored.run.model, scored.usage, results, meta)


def _check_scoring(request: web.Request, api: str) -> None:
    engine = request.app[STATE].check_accepting()
    check_pooling(engine, api, *TASKS)
    if scoring_task(engine) is None:
        raise not_supported(api, "scores come from models with one class, or with vectors, and it has several classes")
