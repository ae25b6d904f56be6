"""`POST /generate`."""

from __future__ import annotations

from functools import partial

import msgspec
from aiohttp import web

from octavo.frontend.server.best_of import best_completions, check_best_of
from octavo.frontend.server.body import read_body
from octavo.frontend.server.completions.protocol import DEFAULT_MAX_TOKENS
from octavo.frontend.server.errors import ApiError, error_body
from octavo.frontend.server.generate.protocol import GENERATE_BODY, GenerateRequest, GenerateResponse
from octavo.frontend.server.generation import Generation, check_repetition
from octavo.frontend.server.prompts import engine_prompts
from octavo.frontend.server.record import RECORD
from octavo.frontend.server.responses import json_response
from octavo.frontend.server.sampling import named_by_client, sampling_params, weight
from octavo.frontend.server.state import STATE
from octavo.frontend.server.streaming import stream_response
from octavo.outputs import RequestOutput
from octavo.params import SamplingParams

MAX_STREAMED_CHARS = 4_000_000
"""Characters of all texts of one stream; each step sends them again."""
_CHARS_PER_TOKEN = 8


async def generate(request: web.Request) -> web.StreamResponse:
    """Continue one prompt."""
    state = request.app[STATE]
    state.check_accepting()
    body = await read_body(request, GENERATE_BODY)
    with state.admit() as engine:
        model = state.check_model(body.model)
        num_made = check_best_of(body.best_of, body.n, bool(body.stream))
        with named_by_client({"n": "best_of"} if body.best_of is not None else {}):
            limit = DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens
            logprobs = 0 if body.best_of is not None else body.logprobs
            make = partial(sampling_params, body, engine.config, max_tokens=limit, logprobs=logprobs, n=num_made)
            params = await engine.input_processor.texts.run(weight(body), make)
            [prompt] = await engine_prompts(engine, body, [body.prompt], add_special_tokens=True, max_tokens=limit)
            _check_answer_size(body, params)
            generation = Generation(state, request[RECORD], "gen-", body, model, [prompt], params)
            if body.stream:
                return await stream_response(request, engine, generation, GenerateStream(body, generation))
            [output] = await generation.final_outputs(engine)
        best = best_completions(output, body.n or 1)
        return json_response(GenerateResponse([body.prompt + sequence.text for sequence in best]))


def _check_answer_size(body: GenerateRequest, params: SamplingParams) -> None:
    if body.stream:
        # Every document holds all texts so far.
        size = len(body.prompt) + _CHARS_PER_TOKEN * (params.max_tokens or 0)
        check_repetition("a streamed text", size, params.n, MAX_STREAMED_CHARS)
    else:
        check_repetition("the prompt", len(body.prompt), params.n)


class GenerateStream:
    """The StreamEncoder of the plain protocol: one JSON document a line, each with the whole text so far."""

    content_type = "application/json"
    keep_alive = b""

    def __init__(self, body: GenerateRequest, generation: Generation) -> None:
        self._texts = [body.prompt] * generation.num_sequences
        self._encode = msgspec.json.Encoder().encode

    def chunk(self, _index: int, output: RequestOutput, /) -> bytes:
        for sequence in output.outputs:
            self._texts[sequence.index] += sequence.text
        return self._encode(GenerateResponse(self._texts)) + b"\n"

    def end(self) -> bytes:
        return b""

    def error(self, error: ApiError) -> bytes:
        return error_body(error) + b"\n"
