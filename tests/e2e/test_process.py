"""The server as a process: clients that go away, overload, signals, and deaths."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from servers import HANG_GUARD, OctavoServer

LONG: dict[str, Any] = {"prompt": "The capital of France", "max_tokens": 2000, "ignore_eos": True, "temperature": 0}
SHORT: dict[str, Any] = {**LONG, "max_tokens": 3}

Serve = Callable[..., OctavoServer]


def metric(server: OctavoServer, name: str) -> float:
    """Sum of a metric's samples."""
    found = re.findall(rf"^octavo:{name}(?:\{{.*\}})? (\S+)$", server.get("/metrics"), re.MULTILINE)
    assert found, name
    return sum(map(float, found))


def wait_for(condition: Callable[[], bool], seconds: float = HANG_GUARD) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def core_pid(server: OctavoServer) -> int:
    """The core is the server's only child."""
    threads = Path(f"/proc/{server.process.pid}/task").glob("*/children")
    children = [pid for thread in threads for pid in thread.read_text().split()]
    cores = [int(pid) for pid in children if b"octavo.core" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(cores) == 1, children
    return cores[0]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def post(session: aiohttp.ClientSession, server: OctavoServer, body: dict[str, Any]) -> tuple[int, str]:
    """Status and text, (0, "") when the connection breaks."""
    try:
        async with session.post(server.url + "/v1/completions", json=body) as response:
            return response.status, await response.text()
    except aiohttp.ClientError:
        return 0, ""


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_away_frees_its_blocks(tiny_server: OctavoServer, stream: bool) -> None:
    before = metric(tiny_server, "http_disconnects_total")
    async with aiohttp.ClientSession() as session:
        bodies = [{**LONG, "stream": stream, "seed": i, "n": 1 + i % 2, "temperature": 1.0} for i in range(6)]
        tasks = [asyncio.create_task(post(session, tiny_server, body)) for body in bodies]
        await asyncio.to_thread(wait_for, lambda: metric(tiny_server, "num_requests_running") == 9)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.to_thread(wait_for, lambda: metric(tiny_server, "http_disconnects_total") == before + 6)
    await asyncio.to_thread(wait_for, lambda: metric(tiny_server, "num_requests_running") == 0)
    assert metric(tiny_server, "kv_cache_usage_perc") == 0
    assert tiny_server.post("/v1/completions", SHORT)["usage"]["completion_tokens"] == 3


def test_a_request_may_take_so_long_and_no_longer(tiny_server: OctavoServer) -> None:
    body = json.dumps({**LONG, "timeout": 0.05}).encode()
    connection = socket.create_connection(("127.0.0.1", tiny_server.port))
    with connection:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        answer = connection.recv(65536).decode()
    assert " 504 " in answer.splitlines()[0]
    assert '"type":"TimeoutError"' in answer
    wait_for(lambda: metric(tiny_server, "num_requests_running") == 0)


def test_a_number_that_the_core_cannot_be_sent_locks_nothing(tiny_server: OctavoServer) -> None:
    """Not by what a body may hold, nor by any number of such bodies."""
    detection = {"max_pattern_size": 2**70, "min_pattern_size": 0, "min_count": 2}
    body = {"prompt": [[1]] * 1024, "n": 16, "temperature": 1, "max_tokens": 2, "repetition_detection": detection}
    for _ in range(3):
        with pytest.raises(urllib.error.HTTPError) as caught:
            tiny_server.post("/v1/completions", body)
        assert caught.value.code == 400
        assert "repetition_detection.max_pattern_size" in caught.value.read().decode()
    assert json.loads(tiny_server.get("/load")) == {"server_load": 0}
    assert tiny_server.post("/v1/completions", SHORT)["usage"]["completion_tokens"] == 3


def test_generate_and_the_tokenizer(tiny_server: OctavoServer) -> None:
    answer = tiny_server.post("/generate", {**SHORT, "prompt": "Hello"})
    assert answer["text"][0].startswith("Hello")
    tokens = tiny_server.post("/tokenize", {"prompt": "Hello wörld"})
    assert tiny_server.post("/detokenize", {"tokens": tokens["tokens"]}) == {"prompt": "Hello wörld"}


def test_metrics_equal_the_clients_own_counts(tiny_server: OctavoServer) -> None:
    names = (
        "prompt_tokens_total",
        "generation_tokens_total",
        "e2e_request_latency_seconds_count",
        "time_to_first_token_seconds_count",
    )
    before = [metric(tiny_server, name) for name in names]
    usages = [tiny_server.post("/v1/completions", {**LONG, "max_tokens": n})["usage"] for n in (1, 5, 9)]
    expected = [sum(u["prompt_tokens"] for u in usages), sum(u["completion_tokens"] for u in usages), 3, 3]
    assert [metric(tiny_server, name) - old for name, old in zip(names, before, strict=True)] == expected


async def test_overflow_is_refused_with_a_hint(tiny_model_dir: Path, serve: Serve) -> None:
    server = serve(tiny_model_dir, ["--max-num-seqs", "1", "--max-num-queued-reqs", "2"])
    async with aiohttp.ClientSession() as session:

        async def ask() -> tuple[int, str | None]:
            async with session.post(server.url + "/v1/completions", json={**LONG, "max_tokens": 500}) as response:
                return response.status, response.headers.get("Retry-After")

        answers = await asyncio.gather(*(ask() for _ in range(8)))
    refused = [hint for status, hint in answers if status == 429]
    assert len(refused) == 5
    assert all(hint is not None and int(hint) >= 1 for hint in refused)
    assert sum(status == 200 for status, _ in answers) == 3


async def test_sigterm_drains(tiny_model_dir: Path, serve: Serve) -> None:
    server = serve(tiny_model_dir)
    async with aiohttp.ClientSession() as session:
        tasks = [
            asyncio.create_task(post(session, server, {**LONG, "max_tokens": 600, "stream": i % 2 == 0})) for i in range(10)
        ]
        await asyncio.to_thread(wait_for, lambda: metric(server, "num_requests_running") == 10)
        server.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(wait_for, lambda: server.status("/readyz") == 503)
        assert (await post(session, server, SHORT))[0] == 503
        answers = await asyncio.gather(*tasks)
    for number, (status, text) in enumerate(answers):
        assert status == 200
        assert text.endswith("data: [DONE]\n\n") if number % 2 == 0 else '"completion_tokens":600' in text
    assert server.process.wait(HANG_GUARD) == 0
    assert server.status("/livez") is None


async def test_draining_ends_when_its_time_is_up(tiny_model_dir: Path, serve: Serve) -> None:
    server = serve(tiny_model_dir, ["--shutdown-timeout", "0.2"])
    async with aiohttp.ClientSession() as session:
        task = asyncio.create_task(post(session, server, {**LONG, "n": 8, "temperature": 1.0, "seed": 1}))
        await asyncio.to_thread(wait_for, lambda: metric(server, "num_requests_running") == 8)
        server.process.send_signal(signal.SIGTERM)
        status, text = await task
    assert (status, '"finish_reason":"abort"' in text) == (200, True)
    assert server.process.wait(HANG_GUARD) == 0


async def test_a_second_signal_ends_at_once(tiny_model_dir: Path, serve: Serve) -> None:
    server = serve(tiny_model_dir, expect_exit=None)
    core = core_pid(server)
    async with aiohttp.ClientSession() as session:
        task = asyncio.create_task(post(session, server, {**LONG, "n": 8, "temperature": 1.0, "seed": 1}))
        await asyncio.to_thread(wait_for, lambda: metric(server, "num_requests_running") == 8)
        server.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(wait_for, lambda: server.status("/readyz") == 503)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(HANG_GUARD) == 128 + signal.SIGTERM
        await task
    wait_for(lambda: not is_alive(core))
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", server.port))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_stop_while_starting_is_heeded(tiny_model_dir: Path, number: signal.Signals, code: int) -> None:
    server = OctavoServer(tiny_model_dir, expect_exit=None)
    server.wait_ready = lambda: wait_for(lambda: server.status("/livez") == 200)  # type: ignore[method-assign]
    with server:
        assert server.status("/readyz") == 503
        server.process.send_signal(number)
        assert server.process.wait(HANG_GUARD) == code


def test_ctrl_c_exits_130(tiny_model_dir: Path, serve: Serve) -> None:
    server = serve(tiny_model_dir, expect_exit=None)
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(HANG_GUARD) == 130


async def test_a_core_killed_is_replaced_and_its_requests_go_on(tiny_model_dir: Path, serve: Serve) -> None:
    server = serve(tiny_model_dir)
    body = {**LONG, "max_tokens": 1500}
    expected = server.post("/v1/completions", body)["choices"]
    core = core_pid(server)
    async with aiohttp.ClientSession() as session:
        tasks = [asyncio.create_task(post(session, server, {**body, "stream": i % 2 == 0})) for i in range(6)]
        await asyncio.to_thread(wait_for, lambda: metric(server, "num_requests_running") == 6, 60.0)
        os.kill(core, signal.SIGKILL)
        await asyncio.to_thread(wait_for, lambda: server.status("/readyz") == 503, 60.0)
        assert server.status("/livez") == server.status("/health") == 200
        tasks.append(asyncio.create_task(post(session, server, body)))
        answers = await asyncio.gather(*tasks)
    assert [status for status, _ in answers] == [200] * 7
    assert all(json.loads(text)["choices"] == expected for _, text in answers[1::2])
    assert all(text.endswith("data: [DONE]\n\n") for _, text in answers[:6:2])
    assert server.status("/readyz") == 200
    assert core_pid(server) != core
    assert metric(server, "core_restarts_total") == 1
    log = server.log_text()
    assert re.search(rf"the engine core process {core} was ended by SIGKILL; starting another, \d+ requests wait for it", log)
    assert re.search(rf"engine core {core_pid(server)} took its place after \d+\.\d\d s; \d+ requests go on", log)


async def test_a_core_that_cannot_start_again_ends_the_server_with_the_reason(
    tiny_model_dir: Path, tmp_path: Path, serve: Serve
) -> None:
    model = shutil.copytree(tiny_model_dir, tmp_path / "model")
    server = serve(model, expect_exit=None)
    async with aiohttp.ClientSession() as session:
        tasks = [asyncio.create_task(post(session, server, LONG)) for _ in range(3)]
        await asyncio.to_thread(wait_for, lambda: metric(server, "num_requests_running") == 3, 60.0)
        shutil.rmtree(model)
        os.kill(core_pid(server), signal.SIGKILL)
        answers = await asyncio.wait_for(asyncio.gather(*tasks), 60)
    assert [status for status, _ in answers] == [503] * 3
    assert all("could not be started again" in text for _, text in answers)
    assert server.process.wait(30) == 1
    assert "could not be started again" in server.log_text()


async def test_with_no_restarts_a_dead_core_fails_every_request_and_ends_the_server(tiny_model_dir: Path, serve: Serve) -> None:
    server = serve(tiny_model_dir, ["--max-core-restarts", "0"], expect_exit=None)
    core = core_pid(server)
    async with aiohttp.ClientSession() as session:
        tasks = [asyncio.create_task(post(session, server, {**LONG, "stream": i % 2 == 0})) for i in range(6)]
        await asyncio.to_thread(wait_for, lambda: metric(server, "num_requests_running") == 6)
        os.kill(core, signal.SIGKILL)
        answers = await asyncio.wait_for(asyncio.gather(*tasks), HANG_GUARD)
    # A stream has sent its 200 already; its last event says what happened.
    assert [status for status, _ in answers] == [200, 503] * 3
    assert all('"type":"ServiceUnavailableError"' in text for _, text in answers)
    assert server.process.wait(HANG_GUARD) == 1


async def test_a_stalled_core_fails_livez_though_every_client_gives_up(tiny_model_dir: Path, serve: Serve) -> None:
    """Nothing but a step that ends sets the clock back: not requests that come, not clients that go, not that none is left."""
    server = serve(tiny_model_dir, env={"OCTAVO_STEP_TIMEOUT": "2"})
    core = core_pid(server)
    assert server.status("/livez") == 200
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(0.3)) as session:
        os.kill(core, signal.SIGSTOP)
        try:
            deadline = time.monotonic() + 60
            while server.status("/livez") == 200:
                assert time.monotonic() < deadline
                with pytest.raises(TimeoutError):
                    await post(session, server, SHORT)
            assert server.status("/readyz") == 503
            await asyncio.to_thread(wait_for, lambda: json.loads(server.get("/load")) == {"server_load": 0})
            assert server.status("/livez") == 503
        finally:
            os.kill(core, signal.SIGCONT)
    await asyncio.to_thread(wait_for, lambda: server.status("/livez") == 200, 60)
    assert server.post("/v1/completions", SHORT)["usage"]["completion_tokens"] == 3
    await asyncio.to_thread(wait_for, lambda: metric(server, "num_requests_running") == 0, 60)


def test_no_core_outlives_its_server(tiny_model_dir: Path, serve: Serve) -> None:
    server = serve(tiny_model_dir, expect_exit=None)
    core = core_pid(server)
    server.process.kill()
    wait_for(lambda: not is_alive(core))


def test_what_cannot_start_says_why(tiny_model_dir: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = OctavoServer(tiny_model_dir)
        server._command[server._command.index("--port") + 1] = str(taken.getsockname()[1])
        with pytest.raises(RuntimeError, match=r"exited with 1 .*(?s:.)*cannot listen on"):
            server.__enter__()
    with pytest.raises(RuntimeError, match="exited with 1"):
        OctavoServer(tmp_path).__enter__()


def test_the_log_shows_start_up_phases_and_each_request(tiny_server: OctavoServer) -> None:
    tiny_server.post("/v1/completions", {**SHORT, "request_id": "find-me"})
    log = tiny_server.log_text()
    rows = re.findall(r"^  (\S.*?) +(\d+\.\d\d) s$", log, re.MULTILINE)
    *phases, (last, total) = rows
    assert last == "total"
    assert sum(float(seconds) for _, seconds in phases) == pytest.approx(float(total), abs=0.01 * len(rows))
    assert "Octavo is ready at http://127.0.0.1" in log
    assert re.search(r'"POST /v1/completions" 200 id=find-me prompt=\d+ tokens=3 queue=\S+ ttft=\S+ total=\S+', log)
