"""Bad bodies: each is answered 400 in OpenAI's shape, with the field at fault in `param`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from local_server import LocalServer, ServerMaker

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
TEXT = {"prompt": "Hi"}

BAD_SHARED: list[tuple[dict[str, Any], str]] = [
    ({"n": 0}, "n"),
    ({"n": "two"}, "n"),
    ({"n": 10**9}, "n"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": 2.5}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": 0, "n": 2}, "n"),
    ({"top_p": 0}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"top_k": 1.5}, "top_k"),
    ({"min_p": 1.1}, "min_p"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"frequency_penalty": -3}, "frequency_penalty"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -5}, "max_tokens"),
    ({"min_tokens": 9, "max_tokens": 5}, "min_tokens"),
    ({"seed": 2**63}, "seed"),
    ({"stop": [""]}, "stop"),
    ({"stop": ["ab" * 1000, "c" * 100]}, "stop"),
    ({"repetition_penalty": 1e-308}, "repetition_penalty"),
    ({"bad_words": ["w"] * 129}, "bad_words"),
    ({"bad_words": ["word " * 10_000]}, "bad_words"),
    ({"stop": 5}, "stop"),
    ({"stop_token_ids": [-1]}, "stop_token_ids"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"1": "x"}}, "logit_bias"),
    ({"allowed_token_ids": []}, "allowed_token_ids"),
    ({"bad_words": [""]}, "bad_words"),
    ({"prompt_logprobs": -2}, "prompt_logprobs"),
    ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": 7}}, "stream_options.include_usage"),
    ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
    ({"truncate_prompt_tokens": 10**6}, "truncate_prompt_tokens"),
    ({"truncation_side": "middle"}, "truncation_side"),
    *[
        ({name: 2**70}, name)
        for name in ("n", "top_k", "max_tokens", "min_tokens", "seed", "prompt_logprobs", "stream_interval", "priority")
    ],
    *[({name: [2**70]}, f"{name}[0]") for name in ("stop_token_ids", "allowed_token_ids", "logprob_token_ids")],
    ({"logit_bias": {2**70: 1}}, "logit_bias"),
    *[
        ({"repetition_detection": {"min_count": 2, "max_pattern_size": 9, **size}}, f"repetition_detection.{next(iter(size))}")
        for size in ({"max_pattern_size": 2**70}, {"min_pattern_size": -1}, {"min_count": 2**31})
    ],
    ({"request_id": "two words"}, "request_id"),
    ({"request_id": ""}, "request_id"),
    ({"cache_salt": ""}, "cache_salt"),
    ({"cache_salt": "a/b"}, "cache_salt"),
    ({"cache_salt": "x" * 129}, "cache_salt"),
    ({"timeout": 0}, "timeout"),
    ({"timeout": -1}, "timeout"),
    ({"use_beam_search": True}, "use_beam_search"),
    ({"length_penalty": 2.0}, "length_penalty"),
    ({"response_format": {"type": "xml"}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, "response_format"),
    ({"structured_outputs": {}}, "structured_outputs"),
    ({"structured_outputs": {"regex": "a*", "choice": ["a"]}}, "structured_outputs"),
    ({"structured_outputs": {"xml": "a*"}}, "structured_outputs"),
    ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs"),
    ({"guided_json": 5}, "guided_json"),
    ({"guided_choice": "a"}, "guided_choice"),
    ({"guided_choice": ["a"], "guided_regex": "a"}, "structured_outputs"),
    ({"guided_choice": ["a"], "response_format": {"type": "json_object"}}, "response_format"),
    ({"logits_processors": ["os.system"]}, "logits_processors"),
    ({"kv_transfer_params": {"a": 1}}, "kv_transfer_params"),
]

BAD_CHAT: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": [5]}, "messages[0]"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "assistant", "tool_calls": 1}]}, "messages[0].tool_calls"),
    ({"messages": [{"role": "assistant", "tool_calls": {"a": 1}}]}, "messages[0].tool_calls"),
    ({"messages": [{"role": "assistant", "tool_calls": ["f"]}]}, "messages[0].tool_calls"),
    ({"messages": [{"role": "user", "content": "x"}] * 2049}, "messages"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "assistant", "tool_calls": 5}]}, "messages[0].tool_calls"),
    ({"messages": [{"role": "assistant", "tool_calls": {"function": {}}}]}, "messages[0].tool_calls"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/"}}]}]},
        "messages[0].content[0]",
    ),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": -2}, "top_logprobs"),
    ({"logprobs": 3}, "logprobs"),
    ({"tools": [], "tool_choice": "auto"}, "tool_choice"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"tools": [{"type": "function"}], "tool_choice": "auto"}, "tools"),
    ({"tool_choice": "auto"}, "tool_choice"),
    ({"chat_template": "{{ messages }}"}, "chat_template"),
    ({"chat_template_kwargs": {"chat_template": "x"}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
    ({"add_generation_prompt": True, "continue_final_message": True}, "continue_final_message"),
    ({"documents": "text"}, "documents"),
    ({"functions": [{}]}, "functions"),
    ({"modalities": ["audio"]}, "modalities"),
    ({"best_of": 3}, "best_of"),
    (
        {
            "messages": [{"role": "assistant", "content": "x" * 4000}],
            "echo": True,
            "n": 10_000,
            "add_generation_prompt": False,
        },
        "n",
    ),
]

BAD_TEXT: list[tuple[dict[str, Any], str]] = [
    ({"prompt": None}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [1, "a"]}, "prompt"),
    ({"prompt": [[1], "a"]}, "prompt"),
    ({"prompt": [1.5]}, "prompt[0]"),
    ({"prompt": ["x"] * 1025}, "prompt"),
    ({"prompt": ["x"] * 1000, "n": 17}, "n"),
    ({"prompt": [-1], "echo": True}, "prompt"),
    ({"prompt": "a" * 4000, "n": 10_000, "echo": True}, "n"),
    ({"prompt": [5, 2**31 - 1], "echo": True}, "prompt"),
    ({"prompt": ["x"] * 1000, "n": 16, "allowed_token_ids": list(range(500))}, "n"),
    ({"logprobs": -1}, "logprobs"),
    ({"logprobs": True}, "logprobs"),
    ({"best_of": 1, "n": 2}, "best_of"),
    ({"best_of": 2, "stream": True}, "best_of"),
    ({"best_of": 2, "temperature": 0}, "best_of"),
    ({"echo": True, "logprobs": 1, "stream": True, "n": 2}, "echo"),
    ({"suffix": "end"}, "suffix"),
    ({"prompt_embeds": "AAAA"}, "prompt_embeds"),
]

BAD_OTHERS: list[tuple[str, dict[str, Any], str]] = [
    ("/generate", {}, "prompt"),
    ("/generate", {"prompt": ["a"]}, "prompt"),
    ("/generate", {"prompt": "a", "top_p": 2}, "top_p"),
    ("/generate", {"prompt": "a" * 4000, "n": 10_000}, "n"),
    ("/generate", {"prompt": "a" * 400, "n": 10_000, "stream": True}, "n"),
    ("/generate", {"prompt": "a", "use_beam_search": True, "best_of": 2}, "use_beam_search"),
    ("/tokenize", {}, "prompt"),
    ("/tokenize", {"prompt": "a", "messages": []}, "prompt"),
    ("/tokenize", {"prompt": 5}, "prompt"),
    ("/tokenize", {"messages": []}, "messages"),
    ("/tokenize", {"messages": [{"role": "user", "content": "x"}], "chat_template": "x"}, "chat_template"),
    ("/detokenize", {}, "tokens"),
    ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
    ("/detokenize", {"tokens": [10**6]}, "tokens"),
    ("/detokenize", {"tokens": ["a"]}, "tokens[0]"),
]

CASES = [
    *(("/v1/chat/completions", {**CHAT, **body}, param) for body, param in BAD_SHARED + BAD_CHAT),
    *(("/v1/completions", {**TEXT, **body}, param) for body, param in BAD_SHARED + BAD_TEXT),
    *BAD_OTHERS,
]


async def check_refused(server: LocalServer, path: str, body: Any, param: str | None) -> None:
    status, answer = await server.post(path, body)
    assert status == 400, (body, answer)
    assert set(answer) == {"error"}
    error = answer["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "BadRequestError"
    assert error["code"] in (400, "missing_required_parameter", "unsupported_parameter", "context_length_exceeded")
    assert error["message"]
    assert error["param"] == param, (body, error)


async def test_each_bad_field_is_named(server: LocalServer) -> None:
    for path, body, param in CASES:
        await check_refused(server, path, body, param)


BROKEN = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"42",
    b'{"prompt": "a"}{',
    b"\xff\xfe{}",
    b'{"prompt": "\xc3\x28"}',
    b'{"prompt": "a", "unknown": "\xff"}',
    b'{"prompt": "\\ud800"}',
    b'{"prompt": "a", "temperature": NaN}',
    b'{"prompt": "a", "unknown": Infinity}',
    b"[" * 100_000,
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b'{"prompt": "a", "unknown": ' + b"[" * 3000 + b"]" * 3000 + b"}",
    b'{"messages": [{"role": "user", "content": ' + b"[" * 3000 + b"]" * 3000 + b"}]}",
]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/generate", "/tokenize", "/detokenize"])
async def test_what_is_no_json_object_is_refused(server: LocalServer, path: str) -> None:
    for body in BROKEN:
        status, answer = await server.post(path, body)
        assert status == 400, body[:40]
        assert answer["error"]["type"] == "BadRequestError"
    assert server.engine.calls == []


async def test_a_number_beyond_all_floats_is_refused(server: LocalServer) -> None:
    await check_refused(server, "/v1/completions", b'{"prompt": "a", "temperature": 1e999}', "temperature")


LAX = {
    "stream": (0, "false", "0"),
    "ignore_eos": (1, "true", "1"),
    "max_tokens": ("3", 3.0, "3.0"),
    "temperature": ("0.5", "1e-1"),
    "logit_bias": ({"5": "1"},),
    "stop_token_ids": (["5", 6],),
    "use_beam_search": (0, False),
    "stop": ("null", "5", ["5"]),
}
"""Values as pydantic's lax mode takes them."""

NOT_EVEN_LAX = {
    "stream": (2, -1, "maybe", "null", 0.5, [0]),
    "max_tokens": (True, "three", "3.5", "99999999999999999999", "null", ["3"], ""),
    "temperature": (True, "warm", "nan", "inf", "-Infinity", "null"),
    "logit_bias": ({"5": "nan"}, {"5": True}, "{}"),
    "timeout": ("inf", "-1"),
    "stop": (5, True),
    "seed": (False, "0x10"),
}


async def test_numbers_and_switches_may_be_text(server: LocalServer) -> None:
    for name, values in LAX.items():
        for value in values:
            status, answer = await server.post("/v1/completions", {**TEXT, name: value})
            assert status == 200, (name, value, answer)
    body = {**TEXT, "max_tokens": "3", "temperature": "0.5", "ignore_eos": 1, "stop": "5", "seed": "7"}
    assert (await server.post("/v1/completions", body))[0] == 200
    params = server.engine.calls[-1].params
    assert (params.max_tokens, params.temperature, params.ignore_eos, params.stop, params.seed) == (3, 0.5, True, "5", 7)


async def test_what_is_no_number_in_text_is_refused(server: LocalServer) -> None:
    for name, values in NOT_EVEN_LAX.items():
        for value in values:
            status, answer = await server.post("/v1/completions", {**TEXT, "echo": 0, name: value})
            assert (status, answer["error"]["param"]) == (400, name), (name, value, answer)


async def test_a_foreign_content_type_is_refused(server: LocalServer) -> None:
    """Else any web page could post to a server on its visitor's machine."""
    status, answer = await server.post("/v1/completions", TEXT, headers={"Content-Type": "text/plain"})
    assert (status, answer["error"]["code"]) == (400, 400)


async def test_neutral_values_of_unserved_fields_are_fine(server: LocalServer) -> None:
    neutral = {
        "use_beam_search": False,
        "length_penalty": 1.0,
        "response_format": {"type": "text"},
        "guided_json": None,
        "suffix": None,
        "user": "somebody",
    }
    async with server.client.post(server.url + "/v1/completions", json={**TEXT, **neutral}) as response:
        assert response.status == 200
        assert "X-Octavo-Warning" not in response.headers


async def test_unknown_fields_are_warned_of(server: LocalServer) -> None:
    for stream in (False, True):
        body = {**TEXT, "stream": stream, "temprature": 0.5, "zweite\n": 1}
        async with server.client.post(server.url + "/v1/completions", json=body) as response:
            assert response.status == 200
            assert response.headers["X-Octavo-Warning"] == "unknown fields: temprature, zweite?"


async def test_unknown_fields_are_refused_when_strict(make_server: ServerMaker) -> None:
    server = await make_server(strict_params=True)
    await check_refused(server, "/v1/completions", {**TEXT, "temprature": 0.5}, "temprature")
    assert (await server.post("/v1/completions", {**TEXT, "user": "x", "temperature": 0.5}))[0] == 200


async def test_an_unknown_model_is_not_found(server: LocalServer) -> None:
    for path, body in [("/v1/chat/completions", CHAT), ("/v1/completions", TEXT), ("/tokenize", TEXT)]:
        status, answer = await server.post(path, {**body, "model": "gpt-17"})
        assert status == 404
        assert answer["error"]["type"] == "NotFoundError"
        assert answer["error"]["param"] == "model"
        assert (await server.post(path, {**body, "model": "also-tiny"}))[0] == 200
        assert (await server.post(path, {**body, "model": ""}))[0] == 200


async def test_a_body_over_the_limit_is_413(make_server: ServerMaker) -> None:
    server = await make_server(max_body_size=1000)
    status, answer = await server.post("/v1/completions", {"prompt": "a" * 1000})
    assert (status, answer["error"]["code"]) == (413, 413)

    async def pieces():  # a body whose length nobody announces
        for _ in range(20):
            yield b" " * 100

    headers = {"Content-Type": "application/json"}
    async with server.client.post(server.url + "/v1/completions", data=pieces(), headers=headers) as response:
        assert response.status == 413
    assert (await server.post("/v1/completions", TEXT))[0] == 200


async def test_a_body_in_very_many_tiny_chunks_is_refused(server: LocalServer) -> None:
    async def body(text: bytes, size: int) -> AsyncIterator[bytes]:
        for start in range(0, len(text), size):
            yield text[start : start + size]

    async def status(size: int, length: int) -> int:
        data = json.dumps({**TEXT, "user": "u" * length}).encode()
        url, headers = f"{server.url}/v1/completions", {"Content-Type": "application/json"}
        async with server.client.post(url, data=body(data, size), headers=headers) as response:
            return response.status

    assert await status(size=1, length=50) == 200
    assert await status(size=100, length=1000) == 200
    assert await status(size=1, length=30_000) == 400
