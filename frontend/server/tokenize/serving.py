"""`POST /tokenize`, `POST /detokenize` and `GET /tokenizer_info`."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from octavo.errors import ValidationError
from octavo.frontend.server.body import read_body
from octavo.frontend.server.chat.prompt import check_template_rules, render
from octavo.frontend.server.errors import ApiError
from octavo.frontend.server.responses import encoded, json_bytes_response
from octavo.frontend.server.sampling import named_by_client
from octavo.frontend.server.state import STATE
from octavo.frontend.server.tokenize.protocol import (
    DETOKENIZE_BODY,
    TOKENIZE_BODY,
    DetokenizeResponse,
    TokenizeRequest,
    TokenizeResponse,
)
from octavo.frontend.tokenizer import Tokenizer


async def tokenize(request: web.Request) -> web.Response:
    """Token ids of a text, or of a conversation as the model would see it."""
    state = request.app[STATE]
    state.check_accepting()
    body = await read_body(request, TOKENIZE_BODY)
    with state.admit(queues=False) as engine:
        state.check_model(body.model)
        _check_one_input(body)
        texts = engine.input_processor.texts
        tokenizer = texts.need_tokenizer("prompt")
        with named_by_client({} if body.messages is None else {"prompt": "messages"}):
            if body.messages is not None:
                check_template_rules(body, state.options)
                text, add = await render(engine, state.options, body, body.messages), bool(body.add_special_tokens)
            else:
                text, add = body.prompt or "", body.add_special_tokens is not False
            ids = await texts.encode(text, add_special_tokens=add, as_prompt=False)
        answer = await texts.run(len(ids), _answer, tokenizer, ids, engine.max_model_len, bool(body.return_token_strs))
        return json_bytes_response(answer)


async def detokenize(request: web.Request) -> web.Response:
    """Text of token ids."""
    state = request.app[STATE]
    state.check_accepting()
    body = await read_body(request, DETOKENIZE_BODY)
    with state.admit(queues=False) as engine:
        state.check_model(body.model)
        inputs = engine.input_processor
        await inputs.texts.run(len(body.tokens), inputs.check_ids, "tokens", body.tokens)
        text = await inputs.texts.decode(body.tokens, parameter="tokens")
        return json_bytes_response(await inputs.texts.run(len(text), encoded, DetokenizeResponse(text)))


async def tokenizer_info(request: web.Request) -> web.Response:
    """The tokenizer's special tokens and chat template, as tokenizer_config.json names them."""
    state = request.app[STATE]
    engine = state.engine
    if not state.options.enable_tokenizer_info_endpoint:
        raise ApiError(404, "/tokenizer_info is off; the server can switch it on with --enable-tokenizer-info-endpoint")
    tokenizer = engine.input_processor.texts.need_tokenizer("tokenizer")
    return json_bytes_response(encoded(_info(tokenizer, engine.max_model_len, engine.chat_renderer.source)))


def _answer(tokenizer: Tokenizer, ids: list[int], max_model_len: int, with_strings: bool) -> bytes:
    strings = [tokenizer.id_to_token(i) or "" for i in ids] if with_strings else None
    return encoded(TokenizeResponse(len(ids), max_model_len, ids, strings))


def _info(tokenizer: Tokenizer, max_model_len: int, chat_template: str | None) -> dict[str, Any]:
    added = tokenizer.backend.get_added_tokens_decoder()
    flags = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_model_len,
        "vocab_size": tokenizer.vocab_size,
        **tokenizer.special_tokens,
        "added_tokens_decoder": {str(i): {flag: getattr(token, flag) for flag in flags} for i, token in sorted(added.items())},
        "chat_template": chat_template,
    }


def _check_one_input(body: TokenizeRequest) -> None:
    if (body.prompt is None) == (body.messages is None):
        raise ValidationError("give either prompt or messages.", parameter="prompt")
