"""`POST /tokenize` and `POST /detokenize`."""

from __future__ import annotations

from aiohttp import web

from octavo.errors import ValidationError
from octavo.frontend.server.body import read_body
from octavo.frontend.server.chat.prompt import check_template_rules, render
from octavo.frontend.server.prompts import detokenize as text_of_ids
from octavo.frontend.server.prompts import tokenize as ids_of_text
from octavo.frontend.server.prompts import tokenizer_of
from octavo.frontend.server.responses import json_response
from octavo.frontend.server.state import STATE
from octavo.frontend.server.tokenize.protocol import (
    DETOKENIZE_BODY,
    TOKENIZE_BODY,
    DetokenizeResponse,
    TokenizeRequest,
    TokenizeResponse,
)


async def tokenize(request: web.Request) -> web.Response:
    """Token ids of a text, or of a conversation as the model would see it."""
    state = request.app[STATE]
    engine = state.engine
    body = await read_body(request, TOKENIZE_BODY)
    state.check_model(body.model)
    _check_one_input(body)
    tokenizer = tokenizer_of(engine)
    if body.messages is not None:
        check_template_rules(body, state.options)
        text, add = await render(engine, body, body.messages), bool(body.add_special_tokens)
    else:
        text, add = body.prompt or "", body.add_special_tokens is not False
    ids = await ids_of_text(engine, text, add)
    strings = [tokenizer.id_to_token(i) or "" for i in ids] if body.return_token_strs else None
    return json_response(TokenizeResponse(len(ids), engine.max_model_len, ids, strings))


async def detokenize(request: web.Request) -> web.Response:
    """Text of token ids."""
    state = request.app[STATE]
    engine = state.engine
    body = await read_body(request, DETOKENIZE_BODY)
    state.check_model(body.model)
    vocab_size = engine.config.model.vocab_size
    if any(token_id >= vocab_size for token_id in body.tokens):
        raise ValidationError(f"tokens must be below the vocabulary's size of {vocab_size}.", parameter="tokens")
    return json_response(DetokenizeResponse(await text_of_ids(engine, body.tokens)))


def _check_one_input(body: TokenizeRequest) -> None:
    if (body.prompt is None) == (body.messages is None):
        raise ValidationError("give either prompt or messages.", parameter="prompt")
