"""Probes, overload, failures and clients that go away."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable

import pytest
from fake_engine import TEXT
from local_server import LocalServer, ServerMaker

from octavo.errors import (
    EngineDeadError,
    QueueFullError,
    RequestFailedError,
    RequestRefusedError,
    RequestTimeoutError,
    ValidationError,
)
from octavo.frontend.server.state import Phase

BODY = {"prompt": "Hi", "max_tokens": 100}
WORK = [
    ("/v1/completions", BODY),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
    ("/generate", BODY),
]


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until it holds; fails after two minutes."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_while_starting_only_the_server_answers(make_server: ServerMaker) -> None:
    server = await make_server(started=False)
    assert await server.status("/livez") == 200
    assert await server.status("/readyz") == 503
    assert await server.status("/health") == 503
    assert await server.status("/version") == 200
    assert await server.status("/metrics") == 200
    assert await server.status("/v1/models") == 503
    for path, body in WORK:
        async with server.client.post(server.url + path, json=body) as response:
            assert response.status == 503
            assert int(response.headers["Retry-After"]) >= 1
            assert (await response.json())["error"]["type"] == "ServiceUnavailableError"


async def test_when_ready_everything_answers(server: LocalServer) -> None:
    for path in ("/livez", "/readyz", "/health", "/ping"):
        assert await server.status(path) == 200
    async with server.client.get(server.url + "/version") as response:
        assert set(await response.json()) == {"version"}


async def test_while_draining_running_work_goes_on(server: LocalServer) -> None:
    server.engine.delay = 0.02
    running = asyncio.create_task(server.post("/v1/completions", BODY))
    await eventually(lambda: server.state.in_flight == 1)
    async with server.client.get(server.url + "/load") as response:
        assert await response.json() == {"server_load": 1}
    server.state.phase = Phase.DRAINING
    assert await server.status("/readyz") == 503
    assert await server.status("/livez") == 200
    assert await server.status("/health") == 200
    for path, body in WORK:
        assert (await server.post(path, body))[0] == 503
    status, answer = await running
    assert (status, answer["choices"][0]["text"]) == (200, TEXT)
    assert server.state.idle.is_set()


async def test_a_stalled_core_is_not_alive(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_STEP_TIMEOUT", "60")
    for silence, status in ((0.0, 200), (59.9, 200), (60.1, 503), (600.0, 503), (0.0, 200)):
        server.engine.silence = silence
        assert await server.status("/livez") == status
        assert await server.status("/readyz") == status


async def test_while_the_core_starts_again_the_server_is_alive_but_not_ready(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_STEP_TIMEOUT", "1")
    server.engine.restarting, server.engine.silence = True, 5.0
    assert await server.status("/readyz") == 503
    assert await server.status("/livez") == await server.status("/health") == 200
    assert (await server.post("/v1/completions", BODY))[0] == 200, "requests wait in the engine"
    server.engine.restarting = False
    assert await server.status("/livez") == 503
    server.engine.silence = 0.0
    assert await server.status("/readyz") == 200


async def test_a_full_queue_is_not_ready_but_alive(server: LocalServer) -> None:
    server.engine.queue_full = True
    assert await server.status("/readyz") == 503
    assert await server.status("/livez") == 200
    server.engine.queue_full = False
    assert await server.status("/readyz") == 200


async def test_more_than_the_allowed_requests_at_once_are_refused(make_server: ServerMaker) -> None:
    server = await make_server(max_concurrent_requests=1)
    server.engine.delay = 0.05
    running = asyncio.create_task(server.post("/v1/completions", BODY))
    await eventually(lambda: server.state.in_flight == 1)
    async with server.client.post(server.url + "/v1/completions", json=BODY) as response:
        assert response.status == 429
        assert response.headers["Retry-After"] == "1"
    assert await server.status("/readyz") == 503
    async with server.client.get(server.url + "/metrics") as response:
        assert 'octavo:admission_rejections_total{model_name=""} 1.0' in await response.text()
    assert (await running)[0] == 200
    assert (await server.post("/v1/completions", BODY))[0] == 200


FAILURES = [
    (QueueFullError("the queue is full", retry_after=2.3), 429, "RateLimitError"),
    (RequestTimeoutError("too long"), 504, "TimeoutError"),
    (RequestFailedError("the engine failed"), 500, "InternalServerError"),
    (RequestRefusedError("cores died with it"), 500, "InternalServerError"),
    (EngineDeadError(), 503, "ServiceUnavailableError"),
    (ValidationError("no", parameter="prompt"), 400, "BadRequestError"),
    (ZeroDivisionError("secret"), 500, "InternalServerError"),
]


@pytest.mark.parametrize(("error", "status", "kind"), FAILURES, ids=lambda value: type(value).__name__)
async def test_a_failure_before_the_first_token_has_its_status(
    server: LocalServer, error: Exception, status: int, kind: str
) -> None:
    server.engine.fail_with = error
    for path, body in WORK:
        for stream in (False, True):
            async with server.client.post(server.url + path, json={**body, "stream": stream}) as response:
                assert response.status == status
                answer = (await response.json())["error"]
                assert (answer["type"], answer["code"]) == (kind, "rate_limit_exceeded" if status == 429 else status)
                assert response.headers.get("x-should-retry") == (
                    "false" if status == 504 or isinstance(error, RequestRefusedError) else None
                )
                assert "secret" not in answer["message"]
                if status == 429:
                    assert response.headers["Retry-After"] == "3"
    assert server.state.in_flight == 0


@pytest.mark.parametrize(("error", "status", "kind"), FAILURES[1:4], ids=lambda value: type(value).__name__)
async def test_a_failure_in_mid_stream_ends_the_stream_with_an_error(
    server: LocalServer, error: Exception, status: int, kind: str
) -> None:
    server.engine.fail_with, server.engine.fail_after = error, 3
    for path, body in WORK[:2]:
        events = await server.events(path, body)
        assert (events[-1]["error"]["type"], events[-1]["error"]["code"]) == (kind, status)
        assert all("choices" in event for event in events[:-1])
    async with server.client.post(server.url + "/generate", json={**BODY, "stream": True}) as response:
        lines = (await response.text()).splitlines()
    assert json.loads(lines[-1])["error"]["code"] == status
    assert json.loads(lines[-2])["text"]


async def test_one_failing_prompt_ends_the_others(server: LocalServer) -> None:
    server.engine.delay = 30
    status, answer = await server.post("/v1/completions", {"prompt": ["a", "", "b"], "max_tokens": 100})
    assert (status, answer["error"]["param"]) == (400, "prompt")
    await eventually(lambda: len(server.engine.aborted) == 2)
    assert server.state.in_flight == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("prompts", ["a", ["a", "b", "c"]])
@pytest.mark.parametrize("first_token", [True, False])
async def test_a_client_that_goes_away_aborts(server: LocalServer, stream: bool, prompts: object, first_token: bool) -> None:
    server.engine.delay = 0.03 if first_token else 30
    body = {"prompt": prompts, "stream": stream, "max_tokens": 100}
    request = asyncio.create_task(server.client.post(server.url + "/v1/completions", json=body))
    expected = 1 if isinstance(prompts, str) else 3
    await eventually(lambda: len(server.engine.calls) == expected)
    await asyncio.sleep(0.08)
    if stream and first_token:
        (await request).close()
    else:
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
    await eventually(lambda: len(server.engine.aborted) == expected)
    await eventually(lambda: server.state.in_flight == 0)
    async with server.client.get(server.url + "/metrics") as response:
        text = await response.text()
    assert 'octavo:http_disconnects_total{model_name=""} 1.0' in text
    assert 'status="499"' in text


async def test_a_slow_reader_holds_up_only_itself(server: LocalServer) -> None:
    """More than all buffers between hold, and nobody reads: the server waits, and serves others meanwhile."""
    body = json.dumps({"prompt": "a", "stream": True, "n": 3000, "max_tokens": 100, "return_token_ids": True}).encode()
    host, port = server.url.removeprefix("http://").split(":")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((host, int(port)))
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        await eventually(lambda: len(server.engine.calls) == 1)
        assert (await server.post("/v1/completions", BODY))[0] == 200
        await asyncio.sleep(0.5)
        assert server.state.in_flight == 1
    await eventually(lambda: server.state.in_flight == 0)


async def test_silence_is_filled_with_comments(make_server: ServerMaker) -> None:
    server = await make_server(sse_keep_alive_interval=0.03)
    server.engine.delay = 0.1
    for path, body in WORK[:2]:
        async with server.client.post(server.url + path, json={**body, "stream": True}) as response:
            text = await response.text()
        assert text.startswith(": keep-alive\n\n")
        assert text.count(": keep-alive\n\n") > 3
        assert text.endswith("data: [DONE]\n\n")
    server.engine.delay = 0
    server.engine.fail_with = QueueFullError("full")
    assert (await server.post("/v1/completions", {**BODY, "stream": True}))[0] == 429
    assert (await server.post("/generate", {**BODY, "stream": True}))[0] == 429


async def test_what_was_not_finished_when_time_is_up_is_aborted(server: LocalServer) -> None:
    server.engine.delay = 30
    running = asyncio.create_task(server.post("/v1/completions", {**BODY, "prompt": ["a", "b"], "request_id": "long"}))
    await eventually(lambda: len(server.engine.calls) == 2)
    await server.state.abort_active()
    assert sorted(server.engine.aborted) == sorted(call.id for call in server.engine.calls)
    assert all(request_id.startswith("cmpl-long-") for request_id in server.engine.aborted)
    running.cancel()
