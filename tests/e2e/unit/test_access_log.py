"""The access log: what a request came to, also one that was refused or left."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from local_server import LocalServer, ServerMaker

from octavo.log_format import JsonFormatter

LOGGER = "octavo.access"
TEXT = {"prompt": "one two", "max_tokens": 8}


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == LOGGER]


async def test_counts_are_the_engines(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    prompt = len(server.engine.tokenizer.encode("one two"))
    for stream in (False, True):
        async with server.client.post(server.url + "/v1/completions", json={**TEXT, "stream": stream}) as response:
            await response.read()
    await server.post("/v1/completions", {**TEXT, "prompt": ["one two"] * 3, "n": 2})
    assert [f"prompt={prompt} tokens=8" in line for line in lines(caplog)[:2]] == [True, True]
    assert f"prompt={3 * prompt} tokens={3 * 2 * 8}" in lines(caplog)[2]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/completions", "/generate"])
async def test_a_client_that_left_is_logged_with_what_it_cost(
    server: LocalServer, caplog: pytest.LogCaptureFixture, stream: bool, path: str
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    server.engine.delay = 0.02
    request = asyncio.create_task(server.client.post(server.url + path, json={**TEXT, "max_tokens": 1000, "stream": stream}))
    await until(lambda: server.engine.num_said >= 3)
    request.cancel()
    if not request.cancelled() and stream:
        await asyncio.gather(request, return_exceptions=True)
    await server.client.close()
    await until(lambda: bool(lines(caplog)))
    [line] = lines(caplog)
    assert '" 499 ' in line
    assert "outcome='disconnected'" in line
    assert f"prompt={len(server.engine.tokenizer.encode('one two'))} " in line
    tokens = int(line.partition("tokens=")[2].split()[0])
    assert 3 <= tokens <= server.engine.num_said


async def test_a_refusal_is_logged_with_its_reason(make_server: ServerMaker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    server = await make_server(api_key=["right"])
    key = {"Authorization": "Bearer right"}
    await server.post("/v1/completions", TEXT)
    await server.post("/v1/completions", {**TEXT, "temperature": -1}, headers=key)
    await server.post("/v1/completion", TEXT, headers=key)
    await server.post("/v1/completions", {**TEXT, "model": "x\n\x1b[31m" + "y" * 500}, headers=key)
    unauthorized, bad, lost, unknown = lines(caplog)
    assert '" 401 ' in unauthorized
    assert "reason='a valid API key is needed" in unauthorized
    assert "reason='temperature must be non-negative, got -1" in bad
    assert "did you mean /v1/completions?" in lost
    assert unknown.isprintable()
    assert len(unknown) < 400


async def test_a_failure_in_mid_stream_is_logged_with_its_reason(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    server.engine.fail_with, server.engine.fail_after = RuntimeError("secret"), 3
    async with server.client.post(server.url + "/v1/completions", json={**TEXT, "stream": True}) as response:
        await response.read()
    [line] = lines(caplog)
    assert "outcome='500 in mid-stream' reason='internal server error' " in line


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  (nobody announces it)
            await asyncio.sleep(0.01)


async def test_what_is_not_there_is_logged_when_it_is_only_looked_for(
    make_server: ServerMaker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    server = await make_server(api_key=["right"])
    for path in ("/health", "/v1/models", "/nowhere"):
        async with server.client.get(server.url + path) as response:
            await response.read()
    unauthorized, lost = lines(caplog)
    assert '"GET /v1/models" 401' in unauthorized
    assert '"GET /nowhere" ' in lost


async def test_fields_for_machines(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    await server.post("/v1/completions", TEXT)
    [record] = [record for record in caplog.records if record.name == LOGGER]
    entry = json.loads(JsonFormatter("server").format(record))
    assert (entry["method"], entry["path"], entry["status"], entry["tokens"]) == ("POST", "/v1/completions", 200, 8)
    assert entry["id"] in entry["message"]
    assert 0 < entry["ttft_ms"] <= entry["total_ms"]
    assert "reason" not in entry
