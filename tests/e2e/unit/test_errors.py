"""Refusals: one shape, one type for each status, OpenAI's words as codes, and hints."""

from __future__ import annotations

import re
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
import pytest
from local_server import LocalServer, ServerMaker

from octavo.errors import QueueFullError
from octavo.frontend.server import errors
from octavo.frontend.server.app import ROUTES
from octavo.frontend.server.errors import ApiError, error_body
from octavo.frontend.server.routing import nearest_route

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


def test_one_type_for_each_status() -> None:
    types = [ApiError(status, "x").kind for status in HTTPStatus if status >= 400]
    assert len(set(types)) == len(types)
    assert all(kind.isalpha() and kind.endswith("Error") for kind in types)
    assert {ApiError(status, "x").kind for status in errors._TYPES} == set(errors._TYPES.values())


def test_the_documented_types_are_those() -> None:
    page = (Path(__file__).parents[3] / "docs" / "server.md").read_text(encoding="utf-8")
    rows = re.findall(r'^\| (\d{3}) \| `"(\w+)"` \|', page, re.MULTILINE)
    assert {int(status): kind for status, kind in rows} == {int(status): kind for status, kind in errors._TYPES.items()}


def test_a_message_may_quote_anything() -> None:
    error = msgspec.json.decode(error_body(ApiError(400, "role \ud800 is unknown", param="a")))["error"]
    assert error == {"message": r"role \ud800 is unknown", "type": "BadRequestError", "param": "a", "code": 400}


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/completions", {"prompt": "word " * 4000}, 400, "context_length_exceeded"),
        ("/v1/completions", {"prompt": "x" * 100_000}, 400, "context_length_exceeded"),
        ("/v1/completions", {"prompt": ["a", "word " * 4000]}, 400, "context_length_exceeded"),
        ("/v1/completions", {"prompt": "a", "model": "gpt-17"}, 404, "model_not_found"),
        ("/v1/completions", {}, 400, "missing_required_parameter"),
        ("/v1/completions", {"prompt": "a", "use_beam_search": True}, 400, "unsupported_parameter"),
        ("/v1/completions", {"prompt": "a", "temperature": -1}, 400, 400),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 100_000}]}, 400, "context_length_exceeded"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}] * 3000}, 400, "context_length_exceeded"),
    ],
)
async def test_codes_are_openais_words(real_input: LocalServer, path: str, body: Any, status: int, code: int | str) -> None:
    answered, answer = await real_input.post(path, body)
    assert (answered, answer["error"]["code"]) == (status, code), answer
    if code == "context_length_exceeded":
        assert "maximum context length is 2048 tokens" in answer["error"]["message"]


@pytest.fixture
async def real_input(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    """A server whose engine checks its prompts as a real one does."""
    said = server.engine.generate

    async def checked(prompt: Any, params: Any, request_id: str, **options: Any) -> Any:
        await server.engine.input_processor.process(prompt, params)
        async for output in said(prompt, params, request_id, **options):
            yield output

    monkeypatch.setattr(server.engine, "generate", checked)
    return server


PATHS = frozenset((method, path) for method, path, _ in ROUTES)


@pytest.mark.parametrize(
    ("method", "path", "hint"),
    [
        ("GET", "/models", "/v1/models"),
        ("GET", "/v1/models/", "/v1/models"),
        ("GET", "/v1/v1/models", "/v1/models"),
        ("POST", "/chat/completions", "/v1/chat/completions"),
        ("POST", "/v1/chat/completion", "/v1/chat/completions"),
        ("POST", "/v1/chat/completions/", "/v1/chat/completions"),
        ("POST", "/v1/Completions", "/v1/completions"),
        ("POST", "/v1/tokenize", "/tokenize"),
        ("GET", "/v1/health", "/health"),
        ("GET", "/completions", "POST /v1/completions"),
        ("GET", "/something/else/entirely", None),
        ("GET", "/", None),
        ("GET", "/" + "completions" * 1000, None),
    ],
)
def test_the_nearest_route(method: str, path: str, hint: str | None) -> None:
    assert nearest_route(method, path, PATHS) == hint


async def test_a_404_names_what_was_asked_for(server: LocalServer) -> None:
    status, answer = await server.post("/v1/chat/completion", CHAT)
    message = "there is no route POST /v1/chat/completion; did you mean /v1/chat/completions?"
    assert (status, answer["error"]["message"]) == (404, message)
    async with server.client.get(server.url + "/v1/completions") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "POST"
        assert "method GET is not allowed; allowed: POST" in (await response.json())["error"]["message"]


async def test_a_browsers_refusal_has_the_shape(server: LocalServer) -> None:
    headers = {"Origin": "https://bad.example", "Access-Control-Request-Method": "POST"}
    async with server.client.options(server.url + "/v1/completions", headers=headers) as response:
        error = (await response.json())["error"]
    assert (response.status, error["type"], error["code"]) == (403, "PermissionDeniedError", 403)


@pytest.mark.parametrize("name", ["self", "caller", "loop", "context", "environment", "range", "dict", "raise", "é", "a b"])
async def test_any_name_may_be_a_template_variable(server: LocalServer, name: str) -> None:
    status, answer = await server.post("/v1/chat/completions", {**CHAT, "chat_template_kwargs": {name: 1}})
    assert status == 200, answer


@pytest.mark.parametrize("name", ["messages", "chat_template", "content_format", "raise_exception", "tools", "strftime_now"])
async def test_the_templates_own_names_are_refused(server: LocalServer, name: str) -> None:
    status, answer = await server.post("/v1/chat/completions", {**CHAT, "chat_template_kwargs": {name: 1}})
    assert (status, answer["error"]["param"]) == (400, "chat_template_kwargs")


async def test_what_openais_clients_send_is_accepted(server: LocalServer) -> None:
    stops = [f"\n{word}" for word in ("class", "def", "#", "if", "print")]
    for more in (
        {"tools": []},
        {"tools": [], "tool_choice": "none"},
        {"stop": stops},
        {"prompt_cache_retention": "24h"},
        {"messages": [{"role": "developer", "content": "a"}, {"role": "user", "content": "b"}]},
    ):
        async with server.client.post(server.url + "/v1/chat/completions", json={**CHAT, **more}) as response:
            assert response.status == 200, await response.text()
            assert "X-Octavo-Warning" not in response.headers
    assert any(call.params.stop == stops for call in server.engine.calls)


async def test_a_full_queue_refuses_before_there_is_work(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.engine.room_error = QueueFullError("The queue is full.", 3.0)
    monkeypatch.setattr(server.engine, "render_chat", lambda *_, **__: pytest.fail("rendered"))
    for path, body in (("/v1/chat/completions", CHAT), ("/v1/completions", {"prompt": "a"}), ("/generate", {"prompt": "a"})):
        assert (await server.post(path, body))[0] == 429
    assert (await server.post("/tokenize", {"prompt": "a"}))[0] == 200
    assert server.engine.calls == []


async def test_tokenizer_info(make_server: ServerMaker) -> None:
    server = await make_server()
    async with server.client.get(server.url + "/tokenizer_info") as response:
        assert response.status == 404
        assert "--enable-tokenizer-info-endpoint" in (await response.json())["error"]["message"]
    server = await make_server(enable_tokenizer_info_endpoint=True)
    async with server.client.get(server.url + "/tokenizer_info") as response:
        info = await response.json()
    tokenizer = server.engine.tokenizer
    assert info["chat_template"] == tokenizer.chat_template
    assert info["eos_token"] == tokenizer.id_to_token(tokenizer.eos_token_id)
    assert info["model_max_length"] == 2048
    assert info["added_tokens_decoder"][str(tokenizer.eos_token_id)]["special"] is True


async def test_the_tokenizers_endpoints_count_as_work(make_server: ServerMaker) -> None:
    server = await make_server(max_concurrent_requests=1)
    with server.state.admit():
        for path, body in (("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": [5]})):
            assert (await server.post(path, body))[0] == 429
    assert (await server.post("/tokenize", {"prompt": "x" * 1_000_001}))[0] == 400
    assert (await server.post("/detokenize", {"tokens": [5] * 1_000_001}))[1]["error"]["param"] == "tokens"
    assert (await server.post("/detokenize", {"tokens": [5] * 3000 + [-5]}))[0] == 400
    assert server.state.in_flight == 0
