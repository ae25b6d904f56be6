"""A real server process under input that once hurt: each is answered 4xx, and everybody else is served as before."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from servers import OctavoServer

TEXT: dict[str, Any] = {"prompt": "Hello", "max_tokens": 4, "temperature": 0}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0}
JSON = {"Content-Type": "application/json"}
MEGABYTE = 2**20


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(session: aiohttp.ClientSession, server: OctavoServer, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with session.post(server.url + path, data=data, headers={**JSON, **headers}) as response:
        return response.status, await response.json()


HOSTILE: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/completions", {**TEXT, "repetition_penalty": 1e-308}, "repetition_penalty"),
    ("/v1/completions", {**TEXT, "repetition_penalty": 1e308}, "repetition_penalty"),
    ("/v1/completions", {**TEXT, "prompt": [-1], "echo": True}, "prompt"),
    ("/v1/completions", {**TEXT, "allowed_token_ids": [2], "min_tokens": 2}, "allowed_token_ids"),
    ("/v1/completions", {**TEXT, "allowed_token_ids": [7], "stop_token_ids": [7], "min_tokens": 1}, "allowed_token_ids"),
    ("/v1/completions", {**TEXT, "stop_token_ids": list(range(576)), "min_tokens": 1}, "stop_token_ids"),
    ("/v1/completions", {**TEXT, "bad_words": ["word " * (12 * MEGABYTE // 5)]}, "bad_words"),
    ("/v1/completions", {**TEXT, "prompt": "word " * (8 * MEGABYTE // 5)}, "prompt"),
    ("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": "word " * (8 * MEGABYTE // 5)}]}, "messages"),
    ("/v1/chat/completions", {**CHAT, "chat_template_kwargs": {"messages": 1}}, "chat_template_kwargs"),
    ("/v1/chat/completions", {**CHAT, "messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ("/tokenize", {"prompt": "word " * (2 * MEGABYTE // 5)}, "prompt"),
    ("/detokenize", {"tokens": [5] * (2 * MEGABYTE)}, "tokens"),
]


@pytest.mark.parametrize(("path", "body", "param"), HOSTILE, ids=lambda value: str(value)[:60])
async def test_each_is_a_400_that_names_its_field(
    tiny_server: OctavoServer, session: aiohttp.ClientSession, path: str, body: dict[str, Any], param: str
) -> None:
    status, answer = await ask(session, tiny_server, path, body)
    assert (status, answer["error"]["param"]) == (400, param), answer
    assert (await ask(session, tiny_server, "/v1/completions", TEXT))[0] == 200


async def test_bodies_that_inflate(tiny_server: OctavoServer, session: aiohttp.ClientSession) -> None:
    bomb = gzip.compress(b" " * (200 * MEGABYTE))
    before = await ask(session, tiny_server, "/v1/completions", TEXT)
    bombs = [ask(session, tiny_server, "/v1/completions", bomb, **{"Content-Encoding": "gzip"}) for _ in range(4)]
    *refused, meanwhile = await asyncio.gather(*bombs, ask(session, tiny_server, "/v1/completions", TEXT))
    assert [status for status, _ in refused] == [413] * 4
    assert meanwhile[1]["choices"] == before[1]["choices"]
    packed = gzip.compress(json.dumps(TEXT).encode())
    for data, status in ((packed, 200), (packed[:-5], 400), (b"no gzip", 400)):
        assert (await ask(session, tiny_server, "/v1/completions", data, **{"Content-Encoding": "gzip"}))[0] == status


async def test_those_who_left_are_not_in_the_way(tiny_server: OctavoServer, session: aiohttp.ClientSession) -> None:
    """Eight huge conversations of clients that hang up, and then one of somebody who waits."""
    huge = {**CHAT, "messages": [{"role": "user", "content": "a b c " * 4000}] * 200}
    tasks = [asyncio.create_task(ask(session, tiny_server, "/v1/chat/completions", huge)) for _ in range(8)]
    await asyncio.sleep(0.3)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(60):
        assert (await ask(session, tiny_server, "/v1/chat/completions", CHAT))[0] == 200
        while json.loads(await asyncio.to_thread(tiny_server.get, "/load"))["server_load"]:  # noqa: ASYNC110  (nobody announces it)
            await asyncio.sleep(0.05)


async def test_no_refusal_left_a_traceback(tiny_server: OctavoServer, session: aiohttp.ClientSession) -> None:
    await ask(session, tiny_server, "/v1/chat/completions", {**CHAT, "chat_template_kwargs": {"self": 1}})
    reader, writer = await asyncio.open_connection("127.0.0.1", tiny_server.port)
    writer.write(b"\x16\x03\x01 nonsense\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.0 400 ")
    writer.close()
    log = tiny_server.log_text()
    assert "Traceback" not in log
    assert log.count("malformed 400 reason=") == 1


def test_openais_client_learns_what_to_do(tiny_server: OctavoServer) -> None:
    client = openai.OpenAI(base_url=tiny_server.url + "/v1", api_key="none", max_retries=2, timeout=60)
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model="tiny", prompt="word " * 5000)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.completions.create(model="huge", prompt="x")
    assert unknown.value.code == "model_not_found"
    slow = {"ignore_eos": True, "timeout": 0.001, "request_id": "only-once"}
    with pytest.raises(openai.InternalServerError) as late:
        client.completions.create(model="tiny", prompt="x", max_tokens=2000, extra_body=slow)
    assert late.value.status_code == 504
    assert tiny_server.log_text().count("id=only-once") == 1
    stops = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"]
    assert client.completions.create(model="tiny", prompt="x", max_tokens=4, stop=stops).choices


@pytest.mark.parametrize(
    ("flags", "env", "message"),
    [
        (["--api-key"], {}, "--api-key"),
        (["--api-key", ""], {}, "--api-key"),
        ([], {"OCTAVO_API_KEY": ""}, "OCTAVO_API_KEY"),
    ],
)
def test_a_server_whose_key_is_missing_does_not_start(
    tiny_model_dir: Path, flags: list[str], env: dict[str, str], message: str
) -> None:
    command = [sys.executable, "-m", "octavo.frontend.cli.main", "serve", str(tiny_model_dir), "--port", "0", *flags]
    ended = subprocess.run(command, check=False, env={**os.environ, **env}, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
