"""How well pairs of texts go together, by what the model can: reading both at once, or comparing their vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from aiohttp import web

from octavo.errors import RequestFailedError
from octavo.frontend.cut_tokenization import PairForm, TokenPair, encoded, pair_joiner
from octavo.frontend.scoring import cosine, max_sim
from octavo.frontend.server.pooling.numbers import Floats
from octavo.frontend.server.pooling.prompts import Inputs, check_ids_and_lengths, token_prompt, tokenized_inputs, truncation
from octavo.frontend.server.pooling.running import PoolingRun
from octavo.frontend.server.record import RECORD
from octavo.frontend.server.score.protocol import PairFields
from octavo.frontend.server.score.texts import Pairs, Side
from octavo.frontend.server.state import STATE
from octavo.frontend.server.usage import Usage
from octavo.inputs import TokensPrompt
from octavo.pooling_params import PoolingParams, PoolingTask

if TYPE_CHECKING:
    from tokenizers import Encoding

    from octavo.frontend.async_llm import AsyncLLM

TASKS: tuple[PoolingTask, ...] = ("classify", "embed", "token_embed")
"""What can score, the best first."""
_PRODUCTS_PER_CHARACTER = 1000
"""Numbers that are multiplied in the time in which a character of text is tokenized."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The result of a request.

    Attributes:
        values: float32 [pairs].
        usage: tokens of all texts that the model read.
    """

    run: PoolingRun
    values: Floats
    usage: Usage


def scoring_task(engine: AsyncLLM) -> PoolingTask | None:
    """What the model scores with: as a cross-encoder, which has one class, or by its vectors; None when it cannot."""
    for task in TASKS:
        if task in engine.supported_pooling_tasks and (task != "classify" or _has_one_class(engine)):
            return task
    return None


async def scores(request: web.Request, prefix: str, body: PairFields, model: str, pairs: Pairs, engine: AsyncLLM) -> Scores:
    """Score every pair.

    Args:
        request: being answered.
        prefix: of the answer's id.
        body: of the request.
        model: the name to answer with.
        pairs: the texts.
        engine: what scores them.

    Raises:
        ValidationError: naming the text at fault.
        OctavoError: as `PoolingRun.outputs`.
    """
    task = scoring_task(engine)
    params = PoolingParams(task=task, use_activation=body.use_activation)
    run = PoolingRun(request.app[STATE], request[RECORD], prefix, body, model, params)
    if task == "classify":
        inputs = await _joined(engine, body, pairs)
        arrays, usage = await run.arrays(engine, inputs)
        return Scores(run, np.array([_only(array) for array in arrays], np.float32), usage)
    queries = await _apart(engine, body, pairs.queries, body.max_tokens_per_query)
    documents = await _apart(engine, body, pairs.documents, body.max_tokens_per_doc)
    inputs = Inputs(queries.names + documents.names, queries.prompts + documents.prompts)
    size = len(queries.prompts)
    arrays, usage = await run.arrays(engine, inputs)
    sides = [arrays[query] for query in pairs.query_of], arrays[size:]
    work = sum(array.size for array in sides[1]) if task == "embed" else sum(map(_products, *sides))
    values = await engine.input_processor.texts.run(work // _PRODUCTS_PER_CHARACTER, compare, *sides)
    return Scores(run, values, usage)


def compare(queries: list[Floats], documents: list[Floats]) -> Floats:
    """How alike vectors are.

    Args:
        queries: float32 [hidden] or [tokens, hidden] each.
        documents: as many, of the same kind.

    Returns:
        float32 [pairs]: the cosine of two vectors; of two lists of them, for each of the query's the largest product with
        one of the document's, added up (MaxSim).
    """
    pairs = zip(queries, documents, strict=True)
    return np.array([(cosine if query.ndim == 1 else max_sim)(query, document) for query, document in pairs], np.float32)


def _products(query: Floats, document: Floats) -> int:
    return query.size * len(document)


def _only(array: Floats) -> float:
    """The number of a cross-encoder's one class."""
    if array.size != 1:
        raise RequestFailedError(f"the model gives {array.size} numbers for a pair, and a score is one")
    return float(array.reshape(-1)[0])


def _has_one_class(engine: AsyncLLM) -> bool:
    pooling = engine.config.model.pooling
    return pooling is not None and pooling.num_labels == 1


async def _apart(engine: AsyncLLM, body: PairFields, side: Side, most: int | None) -> Inputs:
    """Each text as a prompt of its own."""
    add = body.add_special_tokens is not False
    return await tokenized_inputs(engine, body, side.texts, side.names, add_special_tokens=add, at_most=most or None)


async def _joined(engine: AsyncLLM, body: PairFields, pairs: Pairs) -> Inputs:
    """Each pair as one prompt; a text is tokenized once however many pairs it is in."""
    form = PairForm(
        whole=truncation(body, engine.max_model_len),
        first=body.max_tokens_per_query or None,
        second=body.max_tokens_per_doc or None,
        keep_ends=body.truncation_side == "left",
        add_special_tokens=body.add_special_tokens is not False,
    )
    firsts = await _encoded(engine, pairs.queries, form, form.first)
    seconds = await _encoded(engine, pairs.documents, form, form.second)
    query_of, names = pairs.query_of, pairs.documents.names

    def join() -> list[TokensPrompt]:
        make = pair_joiner(engine.input_processor.texts.need_tokenizer(names[0]), form)
        joined = [make(firsts[query], second) for query, second in zip(query_of, seconds, strict=True)]
        check_ids_and_lengths(engine, names, [pair.ids for pair in joined])
        return [token_prompt(pair.ids, body, _types_of(engine, pair)) for pair in joined]

    size = sum(map(len, seconds)) + sum(len(firsts[query]) for query in query_of)
    return Inputs(names, await engine.input_processor.texts.run(size, join))


def _types_of(engine: AsyncLLM, pair: TokenPair) -> list[int] | None:
    """Which text each token is of, where the model tells so many texts apart."""
    known = engine.config.model.hf_config.get("type_vocab_size")
    tells = isinstance(known, int) and max(pair.type_ids, default=0) < known and known > 1
    return pair.type_ids if tells else None


async def _encoded(engine: AsyncLLM, side: Side, form: PairForm, most: int | None) -> list[Encoding]:
    """Tokens without special ones; a text that is cut later may have more of them than the context holds."""
    pool, cut = engine.input_processor.texts, form.whole is not None or most is not None
    texts = [await pool.cut_to_fit(text, keep_end=form.keep_ends) for text in side.texts] if cut else side.texts
    return await pool.convert_all(texts, encoded, side.names, as_prompt=not cut)
