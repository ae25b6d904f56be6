"""Every route, field and metric of vLLM's HTTP API is there, or says in a sentence that it is not. Over a real server."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import vllm_surface as vllm
from servers import OctavoServer

from octavo import not_served

SENTENCE = re.compile(r"is not supported: [a-z/0-9].*[^.]\.$")
FLAGS = (
    "--served-model-name", "tiny", "--enable-per-request-metrics", "--enable-prompt-tokens-details", "--max-model-len", "1024",
    "--num-gpu-blocks-override", "128", "--compilation-config", '{"level": 3}', "--attention-backend", "FLASH_ATTN",
)  # fmt: skip
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ROUTES = [route.strip() for route in vllm.ROUTES.split(";")]
OPEN_TO_OPERATORS = {
    "/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache", "/sleep", "/wake_up", "/is_sleeping", "/pause", "/resume",
    "/release_kv_cache_memory", "/collective_rpc", "/server_info", "/is_paused", "/abort_requests", "/get_world_size",
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OctavoServer]:
    env = {"OCTAVO_SERVER_DEV_MODE": "1", "OCTAVO_PROFILER_DIR": str(tmp_path_factory.mktemp("traces"))}
    with OctavoServer(tiny_model_dir, FLAGS, env=env) as server:
        yield server


@pytest.fixture(scope="module")
def plain_server(tiny_server: OctavoServer) -> OctavoServer:
    """Without development mode."""
    return tiny_server


class Answer:
    """Status, headers and JSON of an answer."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.text = status, headers, body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def message(self) -> str:
        return str(self.json["error"]["message"])


def ask(server: OctavoServer, method: str, path: str, body: Any = None) -> Answer:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data=data, method=method, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return Answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())


POOLING_PATHS = {
    "/v1/embeddings", "/v2/embed", "/pooling", "/classify", "/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank",
}  # fmt: skip


@pytest.mark.parametrize("route", ROUTES)
def test_routes(plain_server: OctavoServer, route: str) -> None:
    method, path = route.split(" ")
    answer = ask(plain_server, method, path, {} if method == "POST" else None)
    if path in OPEN_TO_OPERATORS:
        assert answer.status == 403
        assert "OCTAVO_SERVER_DEV_MODE=1" in answer.message
    elif path in ("/start_profile", "/stop_profile"):
        assert answer.status == 403
        assert "OCTAVO_PROFILER_DIR" in answer.message
    elif route.replace("resp_1", "{id}") in not_served.ROUTES:
        assert answer.status == 404
        assert SENTENCE.search(answer.message)
        assert answer.json["error"]["type"] == "NotFoundError"
    elif path in POOLING_PATHS:
        assert answer.status == 501
        assert "--runner pooling" in answer.message
    else:
        assert answer.status in (200, 400)


def test_every_absent_route_is_one_of_vllms() -> None:
    assert {route.replace("{id}", "resp_1") for route in not_served.ROUTES} <= set(ROUTES)


@pytest.mark.parametrize(("path", "fields"), [(CHAT, vllm.CHAT_FIELDS), (COMPLETIONS, vllm.COMPLETION_FIELDS)])
def test_fields(server: OctavoServer, path: str, fields: dict[str, tuple[Any, Any]]) -> None:
    """At their defaults they are all known; what asks for something is done, or refused by name."""
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]} if path == CHAT else {"prompt": "Hi"}
    body["max_tokens"] = 2
    defaults = {name: default for name, (default, _) in fields.items() if default is not None}
    answer = ask(server, "POST", path, {**defaults, **body})
    assert answer.status == 200, answer.text
    assert answer.headers["X-Octavo-Warning"] is None
    assert (
        ask(server, "POST", path, {**body, "no_such_field": 1}).headers["X-Octavo-Warning"] == "unknown fields: no_such_field"
    )
    needed = {"logprob_token_ids": {"logprobs": True if path == CHAT else 1}, "n": {"temperature": 1.0}}
    for name, (_, asking) in fields.items():
        answer = ask(server, "POST", path, {**body, **needed.get(name, {}), name: asking})
        if answer.status != 200:
            assert (answer.status, answer.json["error"]["param"]) == (400, name), (name, answer.text)
        assert answer.headers["X-Octavo-Warning"] is None, name


def test_what_would_be_ignored_is_refused(server: OctavoServer) -> None:
    for name in vllm.IGNORED_GUIDES:
        value = ["x"] if name == "guided_choice" else 'start: "x"' if name == "guided_grammar" else "x"
        value = {"const": "x"} if name == "guided_json" else value
        answer = ask(server, "POST", COMPLETIONS, {"prompt": "Hi", name: value}).json
        assert answer["choices"][0]["text"].strip('"') == "x"


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_fields_of_answers(server: OctavoServer, path: str) -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]} if path == CHAT else {"prompt": "Hi"}
    answer = ask(server, "POST", path, {**body, "max_tokens": 3, "ignore_eos": True}).json
    expected = vllm.CHAT_ANSWER if path == CHAT else vllm.COMPLETION_ANSWER
    assert set(expected[""].split()) <= set(answer)
    [choice] = answer["choices"]
    assert set(expected["choice"].split()) <= set(choice)
    if path == CHAT:
        assert set(expected["message"].split()) <= set(choice["message"])
    assert set(vllm.METRICS_OF_AN_ANSWER) <= set(answer["metrics"])
    assert set(vllm.USAGE) <= set(answer["usage"])
    assert set(vllm.PROMPT_DETAILS) <= set(answer["usage"]["prompt_tokens_details"])


def test_listed_logprobs_of_a_real_model(server: OctavoServer) -> None:
    """Any value of logprobs switches them on; the ids come beside the sampled token."""
    for logprobs in (0, 1, 5):
        body = {"prompt": "Hi", "max_tokens": 3, "temperature": 0, "logprobs": logprobs, "logprob_token_ids": [7, 8, 9]}
        [choice] = ask(server, "POST", COMPLETIONS, {**body, "return_tokens_as_token_ids": True}).json["choices"]
        shown = choice["logprobs"]
        for token, top in zip(shown["tokens"], shown["top_logprobs"], strict=True):
            assert set(top) == {token, "token_id:7", "token_id:8", "token_id:9"}


def test_models(server: OctavoServer) -> None:
    [card] = ask(server, "GET", "/v1/models").json["data"]
    assert set(vllm.MODEL_CARD) <= set(card)
    assert card["max_model_len"] == 1024


@pytest.mark.parametrize("name", vllm.METRICS)
def test_metrics(server: OctavoServer, name: str) -> None:
    families = set(re.findall(r"^# TYPE octavo:(\S+)", server.get("/metrics"), re.MULTILINE))
    there = name in families or name + "_total" in families
    assert there is (name not in not_served.METRICS)


def test_tokens_of_steps_add_up(server: OctavoServer) -> None:
    before = sum_of(server, "iteration_tokens_total_sum")
    body = {"prompt": [[5 + i] * 9 for i in range(10)], "max_tokens": 10, "ignore_eos": True}
    assert ask(server, "POST", COMPLETIONS, body).status == 200
    assert sum_of(server, "iteration_tokens_total_sum") - before == 190


def sum_of(server: OctavoServer, name: str) -> float:
    return sum(float(value) for value in re.findall(rf"^octavo:{name}{{.*}} (\S+)", server.get("/metrics"), re.MULTILINE))


def test_arguments_that_ask_for_nothing_are_logged(server: OctavoServer) -> None:
    log = server.log_text()
    for flag in ("--compilation-config", "--attention-backend"):
        assert log.count(f"{flag} has no effect") == 1


class TestOperatorsRoutes:
    """What development mode opens."""

    def test_caches(self, server: OctavoServer) -> None:
        for path in ("/reset_prefix_cache", "/reset_prefix_cache?reset_running_requests=true", "/reset_mm_cache"):
            assert ask(server, "POST", path).json == {"success": True}
        assert ask(server, "POST", "/reset_prefix_cache?reset_running_requests=maybe").status == 400

    def test_sleep(self, server: OctavoServer) -> None:
        body = {"prompt": "Hi", "max_tokens": 5, "temperature": 0}
        before = ask(server, "POST", COMPLETIONS, body).json["choices"]
        for level in ("0", "1", "2"):
            assert ask(server, "POST", f"/sleep?level={level}").status == 200
            assert ask(server, "GET", "/is_sleeping").json == {"is_sleeping": level != "0"}
            assert ask(server, "GET", "/is_paused").json == {"is_paused": True}
            assert ask(server, "POST", "/resume").status == (200 if level == "0" else 400)
            assert ask(server, "POST", "/wake_up?tags=weights&tags=kv_cache").status == 200
            assert ask(server, "POST", "/wake_up?tags=scheduling").status == 200
            assert ask(server, "POST", COMPLETIONS, body).json["choices"] == before
        assert ask(server, "POST", "/release_kv_cache_memory").status == 200
        assert 'sleep_state="awake"} 0.0' in server.get("/metrics")
        assert ask(server, "POST", "/wake_up").status == 200
        for path in ("/sleep?level=9", "/sleep?mode=x", "/wake_up?tags=x", "/pause?mode=x"):
            assert ask(server, "POST", path).status == 400, path
        assert ask(server, "GET", "/is_paused").json == {"is_paused": False}

    def test_pause(self, server: OctavoServer) -> None:
        assert ask(server, "POST", "/pause?mode=keep&clear_cache=false").json == {"status": "paused"}
        assert ask(server, "GET", "/livez").status == 200
        assert ask(server, "POST", "/resume").json == {"status": "resumed"}

    def test_workers(self, server: OctavoServer) -> None:
        [facts] = ask(server, "POST", "/collective_rpc", {"method": "describe"}).json["results"]
        assert facts["num_blocks"] == 128
        answer = ask(server, "POST", "/collective_rpc", {"method": "eval", "args": ["1"]})
        assert (answer.status, "no method 'eval'" in answer.message) == (400, True)
        assert ask(server, "GET", "/get_world_size").json == {"world_size": 1}
        assert ask(server, "GET", "/server_info?config_format=json").json["config"]["model"]["max_model_len"] == 1024
        assert "'max_model_len': 1024" in ask(server, "GET", "/server_info").json["config"]

    def test_profile(self, server: OctavoServer) -> None:
        assert ask(server, "POST", "/stop_profile").status == 409
        assert ask(server, "POST", "/start_profile").status == 200
        assert ask(server, "POST", "/start_profile").status == 409
        [path] = ask(server, "POST", "/stop_profile").json["results"]
        assert Path(path).stat().st_size > 0

    def test_aborts(self, server: OctavoServer) -> None:
        assert ask(server, "POST", "/abort_requests", {}).status == 200
        assert ask(server, "POST", "/abort_requests", {"request_ids": ["cmpl-unknown"]}).status == 200
