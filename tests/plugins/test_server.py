"""Plugins behind `POST /pooling` of a real server, asked as clients ask."""

from __future__ import annotations

import concurrent.futures
import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugin_environment import plugin_environment
from servers import HANG_GUARD, OctavoServer

from octavo import LLM

IN_PROCESSES = "document,struct,faulty"
"""A process each, which have no large libraries to import."""
IN_THREADS = f"{IN_PROCESSES},first,transition,latest"


@pytest.fixture(scope="module", params=[0, 1], ids=["thread", "processes"])
def server(request: pytest.FixtureRequest, tiny_model_dir: Path, site: Path) -> Iterator[OctavoServer]:
    plugins = IN_PROCESSES if request.param else IN_THREADS
    flags = [
        "--runner", "pooling", "--dtype", "float32", "--io-processor-plugin", plugins, "--io-processor-workers", str(request.param),
        "--io-processor-timeout", "2", "--io-processor-memory", "1G",
    ]  # fmt: skip
    with OctavoServer(tiny_model_dir, flags, env=plugin_environment(site)) as server:
        yield server


def post(server: OctavoServer, data: Any, plugin: str | None = None, **fields: Any) -> tuple[int, dict[str, Any], Any]:
    """Status, body and headers."""
    body = {"data": data, **({"io_processor": plugin} if plugin else {}), **fields}
    request = urllib.request.Request(server.url + "/pooling", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=100) as answer:
            return answer.status, json.load(answer), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["error"], error.headers


def test_the_documents_plugin(server: OctavoServer, tiny_model_dir: Path) -> None:
    texts = ["the sea", "a house by the sea", "one"]
    status, answer, headers = post(server, {"texts": texts}, task="plugin", priority=0, request_id="mine")
    assert status == 200
    assert (answer["request_id"], answer["data"]["id"]) == ("pooling-mine", "pooling-mine")
    assert answer["created_at"] > 1_700_000_000
    assert answer["data"]["calls"][:3] == ["parse_request", "pre_process_async", "pre_process"]
    assert re.match(r"queue;dur=[\d.]+, parse;dur=.*model;dur=", headers["Server-Timing"])
    status, usual, _ = pooled(server, texts)
    assert status == 200
    for row, other in zip(answer["data"]["rows"], usual["data"], strict=True):
        np.testing.assert_array_equal(np.float32(row), np.float32(other["data"]))


def pooled(server: OctavoServer, texts: list[str]) -> tuple[int, dict[str, Any], Any]:
    body = json.dumps({"input": texts, "task": "embed"}).encode()
    request = urllib.request.Request(server.url + "/pooling", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=100) as answer:
        return answer.status, json.load(answer), answer.headers


def test_plugins_written_for_vllm(server: OctavoServer) -> None:
    status, first, _ = post(server, {"text": "hello there", "scale": 2.0}, "first")
    if "io_processor must be one of document, struct, faulty, got 'first'" in first.get("message", ""):
        assert status == 400
        return
    assert status == 200
    assert np.linalg.norm(first["data"]) == pytest.approx(2.0, abs=1e-5)
    status, transition, _ = post(server, {"input": ["ab", "c"]}, "transition")
    assert status == 200
    assert transition["data"]["usage"]["prompt_tokens"] > 1
    status, latest, _ = post(server, "hello there", "latest")
    assert status == 200
    assert (2.0 * np.array(latest["data"]["row"])).tolist() == pytest.approx(first["data"], abs=1e-6)


def test_an_id_cannot_be_a_path(server: OctavoServer) -> None:
    status, answer, _ = post(server, {"texts": ["a"]}, request_id="../../etc/passwd")
    assert status == 200
    assert answer["data"]["id"] == "pooling-.._.._etc_passwd"


@pytest.mark.parametrize(
    ("data", "plugin", "fields", "status", "param"),
    [
        ({"boxes": [{"x": 1}, {"x": "2"}]}, "struct", {}, 422, "data.boxes[1].x"),
        ({"texts": 5}, "document", {}, 400, "data"),
        ({"texts": []}, "document", {}, 500, None),
        ({"texts": ["a"]}, "nobody", {}, 400, "io_processor"),
        ({"texts": ["a"]}, None, {"input": "a"}, 400, "data"),
        ({"texts": ["a"]}, None, {"task": "embd"}, 400, "task"),
        ({"texts": ["a"]}, None, {"chat_template": "x"}, 400, "chat_template"),
        ({"texts": ["a"]}, None, {"encoding_format": "base64"}, 400, "encoding_format"),
        ({"texts": ["a"]}, None, {"pooling_params": {"dimension": 1}}, 400, "pooling_params.dimension"),
        ({"texts": ["a"]}, None, {"pooling_params": {"dimensions": 1}}, 400, "dimensions"),
        ({"texts": ["a"]}, None, {"sampling_params": {}}, 400, "sampling_params"),
        ({"texts": ["a"]}, None, {"model": "another"}, 404, "model"),
        ({"in": "pre_process", "do": "raise"}, "faulty", {}, 500, None),
        ({"in": "pre_process", "do": "many"}, "faulty", {}, 400, "data"),
        ({"in": "post_process", "do": "unserializable"}, "faulty", {}, 500, None),
        ({"in": "pre_process", "do": "hang"}, "faulty", {}, 504, None),
    ],
)
def test_errors_have_their_status(
    server: OctavoServer, data: Any, plugin: str | None, fields: dict[str, Any], status: int, param: str | None
) -> None:
    got, error, _ = post(server, data, plugin, **fields)
    assert (got, error["param"]) == (status, param), error
    assert post(server, {"prompts": ["a"]}, "faulty")[1]["data"]["count"] == 1


def test_the_requests_parameters_are_honoured(server: OctavoServer) -> None:
    _, normalized, _ = post(server, {"texts": ["the sea"]})
    _, raw, _ = post(server, {"texts": ["the sea"]}, pooling_params={"task": "embed"}, use_activation=False)
    _, cut, _ = post(server, {"texts": ["the sea is blue"]}, task="embed", truncate_prompt_tokens=1)
    _, short, _ = post(server, {"texts": ["the sea"]}, task="embed", truncate_prompt_tokens=1)
    row = np.array(raw["data"]["rows"][0])
    assert not np.isclose(np.linalg.norm(row), 1.0)
    np.testing.assert_allclose(row / np.linalg.norm(row), normalized["data"]["rows"][0], atol=1e-5)
    assert cut["data"]["rows"] == short["data"]["rows"]


def test_faults_beside_others(server: OctavoServer) -> None:
    """50 good requests among bad ones: each with its own answer, the same as alone."""
    good = [{"texts": [f"the sea {i}", "a house"]} for i in range(50)]
    bad = [
        {"in": m, "do": do} for m in ("pre_process", "post_process") for do in ("raise", "refuse", "hang", "wrong type", "many")
    ]
    alone = [post(server, one)[1]["data"]["rows"] for one in good]
    with concurrent.futures.ThreadPoolExecutor(24) as threads:
        wrong = [threads.submit(post, server, one, "faulty") for one in bad]
        right = [threads.submit(post, server, one) for one in good]
        assert [one.result()[1]["data"]["rows"] for one in right] == alone
        assert {one.result()[0] for one in wrong} <= {200, 400, 500, 503, 504}
    with urllib.request.urlopen(server.url + "/metrics") as metrics:
        text = metrics.read().decode()
    assert re.search(r'octavo:io_processor_requests_total\{model_name="[^"]+",outcome="ok",plugin="document"\}', text)
    assert 'outcome="RequestTimeoutError",plugin="faulty"' in text


def test_a_client_that_leaves_ends_its_request(server: OctavoServer) -> None:
    """Its plugin's method is cancelled where it waits."""
    body = json.dumps({"data": {"wait": 1.9}, "io_processor": "faulty"}).encode()
    head = f"POST /pooling HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(head.encode() + body)
        time.sleep(0.3)
    deadline = time.monotonic() + HANG_GUARD
    while 'outcome="abort",plugin="faulty"' not in server.get("/metrics"):
        assert time.monotonic() < deadline, server.log_tail()
        time.sleep(0.05)


def test_a_generating_server(tiny_model_dir: Path, site: Path) -> None:
    env = plugin_environment(site)
    with OctavoServer(tiny_model_dir, ["--dtype", "float32", "--io-processor-plugin", "generating,struct"], env=env) as server:
        data = {"topics": ["the sea", "hello"], "most": 5}
        status, answer, _ = post(server, data, task="generate", sampling_params={"temperature": 0.0})
        assert status == 200
        assert [bool(text) for text in answer["data"]["answers"]] == [True, True]
        assert post(server, data)[1]["data"] == answer["data"], "no other task is there"
        assert post(server, {**data, "most": 99})[:1] == (422,)
        status, error, _ = post(server, {"boxes": [{"x": 1}]}, "struct")
        assert (
            status,
            "parameters must be SamplingParams, for the model generates, got PoolingParams" in error["message"],
        ) == (500, True)
        _, error, _ = post(server, data, sampling_params={"temperature": 9})
        assert error["param"] == "temperature"
    with LLM(str(tiny_model_dir), dtype="float32") as llm:
        from octavo import SamplingParams

        alone = llm.generate(data["topics"], SamplingParams(temperature=0.0, max_tokens=5), use_tqdm=False)  # type: ignore[arg-type]
    assert answer["data"]["answers"] == [one.outputs[0].text for one in alone]


def test_a_server_without_plugins(tiny_server: OctavoServer) -> None:
    status, error, _ = post(tiny_server, {"texts": []})
    assert status in (400, 501)
    assert "plugin" in error["message"].lower() or "pooling" in error["message"].lower()
