"""vLLM's flags through the real process: what is served has its effect, what has none says so, what is refused names what is missing."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from servers import HANG_GUARD, OctavoServer, core_pid

from octavo.config.foreign_args import FOREIGN_ARGS
from octavo.config.foreign_flags import FOREIGN_FLAGS, SERVED_FLAGS
from octavo.frontend.process_usage import process_usage

TEMPLATE = "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}{{ greeting }}{{ who }}"

ENGINE = {
    "--served-model-name": "one two",
    "--dtype": "bfloat16",
    "--seed": "7",
    "--max-model-len": "1k",
    "--hf-overrides.rope_theta": "20000",
    "--max-logprobs": "3",
    "--logprobs-mode": "processed_logprobs",
    "--generation-config": "vllm",
    "--override-generation-config.max_new_tokens": "4",
    "--kv-cache-memory-bytes": "8M",
    "--block-size": "16",
    "--kv-cache-dtype": "float32",
    "--enable-prefix-caching": "true",
    "--max-num-seqs": "4",
    "--max-num-batched-tokens": "64",
    "--max-num-queued-reqs": "7",
    "--max-num-queued-tokens": "300",
    "--enable-chunked-prefill": "true",
    "--long-prefill-token-threshold": "32",
    "--scheduling-policy": "priority",
    "--async-scheduling": "false",
    "--stream-interval": "4",
    "--distributed-executor-backend": "mp",
    "--quantization": "int8",
    "--load-format": "hf",
    "--revision": "main",
    "--tokenizer-revision": "main",
    "--hf-token": "none",
    "--runner": "generate",
    "--convert": "none",
    "--task": "generate",
}
SERVER = {
    "--api-key": "key-1 key-2",
    "--allowed-origins": "http://page.example",
    "--allowed-methods": "POST",
    "--allowed-headers": "X-One",
    "--root-path": "/proxied",
    "--chat-template": TEMPLATE,
    "--chat-template-content-format": "openai",
    "--default-chat-template-kwargs.greeting": "hello",
    "--trust-request-chat-template": "true",
    "--response-role": "bard",
    "--return-tokens-as-token-ids": "true",
    "--enable-prompt-tokens-details": "true",
    "--enable-force-include-usage": "true",
    "--enable-per-request-metrics": "true",
    "--enable-request-id-headers": "false",
    "--enable-tokenizer-info-endpoint": "true",
    "--disable-log-stats": "true",
    "--disable-uvicorn-access-log": "true",
    "--shutdown-timeout": "20",
    "--metrics-prefix": "vllm",
}
"""With a local model `--revision`, `--tokenizer-revision`, `--hf-token` and `--download-dir` have nothing to do."""
WITHOUT_EFFECT = {name: arg for name, arg in {**FOREIGN_ARGS, **FOREIGN_FLAGS}.items() if arg.only is None}
ENVIRONMENT = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_LOGGING_LEVEL": "INFO"}
"""Opens /server_info, and shows that these are read."""


def words(flags: dict[str, str]) -> list[str]:
    return [word for flag, values in flags.items() for word in ([flag, values] if "{" in values else [flag, *values.split()])]


@pytest.fixture(scope="module")
def server(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OctavoServer]:
    folder = str(tmp_path_factory.mktemp("hub"))
    given = [*words(ENGINE), *words(SERVER), "--tokenizer", str(tiny_model_dir), "--download-dir", folder]
    for name, arg in WITHOUT_EFFECT.items():
        flag = "--" + name.replace("_", "-")
        given += [flag] if arg.switch else [flag, "5"]
    with OctavoServer(tiny_model_dir, given, env=ENVIRONMENT) as server:
        yield server


class Answer:
    """Status, headers and body."""

    def __init__(self, status: int, headers: HTTPMessage, body: bytes) -> None:
        self.status, self.headers, self.text = status, headers, body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def ask(server: OctavoServer, path: str, body: Any = None, key: str = "key-2", **headers: str) -> Answer:
    data = None if body is None else json.dumps(body).encode()
    named = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(server.url + path, data=data, headers=named)
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return Answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())


COMPLETION = {"prompt": "one two", "max_tokens": 6, "temperature": 0, "ignore_eos": True}


def test_the_engine_has_what_its_flags_say(server: OctavoServer, tiny_model_dir: Path) -> None:
    config = ask(server, "/server_info?config_format=json").json["config"]
    model, cache, scheduler = config["model"], config["cache"], config["scheduler"]
    assert model["served_model_names"] == ["one", "two"]
    assert (model["dtype"], model["seed"], model["max_model_len"], model["quantization"]) == ("bfloat16", 7, 1024, "int8")
    assert model["hf_config"]["rope_theta"] == 20000
    assert (model["max_logprobs"], model["logprobs_mode"]) == (3, "processed_logprobs")
    assert model["generation_config"].get("max_new_tokens") == 4
    assert "temperature" not in model["generation_config"], "vllm: the model's own sampling defaults are left out"
    assert (model["format"], model["tokenizer_path"]) == ("safetensors", str(tiny_model_dir))
    assert (cache["memory_bytes"], cache["block_size"], cache["dtype"]) == (8 * 1024**2, 16, "float32")
    assert cache["enable_prefix_caching"] is True
    expected = {
        "max_num_seqs": 4, "max_num_batched_tokens": 64, "max_num_queued_reqs": 7, "max_num_queued_tokens": 300,
        "enable_chunked_prefill": True, "long_prefill_token_threshold": 32, "policy": "priority", "async_scheduling": False,
        "stream_interval": 4,
    }  # fmt: skip
    assert scheduler == expected
    assert (config["device"]["executor"], config["log_stats"]) == ("uni", False)


def test_the_cache_is_as_large_as_asked_for(server: OctavoServer) -> None:
    text = ask(server, "/metrics").text
    [labels] = re.findall(r"^vllm:cache_config_info\{(.*)\} 1.0$", text, re.MULTILINE)
    # 2 layers of keys and values, 2 heads of 16 float32 each, 16 tokens a block.
    assert f'num_gpu_blocks="{8 * 1024**2 // (2 * 2 * 2 * 16 * 4 * 16)}"' in labels


def test_limits_of_logprobs_and_queue(server: OctavoServer) -> None:
    assert ask(server, "/v1/completions", {**COMPLETION, "logprobs": 3}).status == 200
    refused = ask(server, "/v1/completions", {**COMPLETION, "logprobs": 4})
    assert (refused.status, refused.json["error"]["param"]) == (400, "logprobs")
    too_many = ask(server, "/v1/completions", {**COMPLETION, "prompt": [[5] * 200] * 8})
    assert too_many.status == 429
    assert ask(server, "/v1/completions", {**COMPLETION, "prompt": [5] * 1025}).status == 400


def test_keys(server: OctavoServer) -> None:
    for key, status in (("key-1", 200), ("key-2", 200), ("key-3", 401)):
        assert ask(server, "/v1/models", key=key).status == status
    assert [model["id"] for model in ask(server, "/proxied/v1/models").json["data"]] == ["one", "two"]


def test_cross_origin(server: OctavoServer) -> None:
    allowed = ask(server, "/v1/models", Origin="http://page.example")
    assert allowed.headers["Access-Control-Allow-Origin"] == "http://page.example"
    assert ask(server, "/v1/models", Origin="http://other.example").headers["Access-Control-Allow-Origin"] is None
    request = urllib.request.Request(server.url + "/v1/models", method="OPTIONS")
    for name, value in {
        "Origin": "http://page.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-one",
    }.items():  # fmt: skip
        request.add_header(name, value)
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.headers["Access-Control-Allow-Methods"] == "POST"
        assert response.headers["Access-Control-Allow-Headers"].lower() == "x-one"


def rendered(server: OctavoServer, **fields: Any) -> str:
    messages = [{"role": "user", "content": "one"}]
    ids = ask(server, "/tokenize", {"messages": messages, **fields}).json["tokens"]
    return str(ask(server, "/detokenize", {"tokens": ids}).json["prompt"])


def test_the_chat_template_and_its_variables(server: OctavoServer) -> None:
    assert rendered(server) == "onehello"
    assert rendered(server, chat_template_kwargs={"who": " world"}) == "onehello world"
    assert rendered(server, chat_template_kwargs={"greeting": "no"}) == "oneno"
    assert rendered(server, chat_template="brought by the request") == "brought by the request"
    assert ask(server, "/tokenizer_info").json["chat_template"] == TEMPLATE


def test_answers_carry_what_is_asked_for(server: OctavoServer) -> None:
    prompt = "the capital of France is Paris, and the capital of Italy is Rome. " * 2
    body = {**COMPLETION, "prompt": prompt, "logprobs": 1}
    ask(server, "/v1/completions", body)
    answer = ask(server, "/v1/completions", body)
    assert "X-Request-Id" not in answer.headers
    assert answer.json["model"] == "one"
    assert answer.json["usage"]["prompt_tokens_details"]["cached_tokens"] >= 16
    assert answer.json["metrics"]["time_to_first_token_ms"] > 0
    assert all(token.startswith("token_id:") for token in answer.json["choices"][0]["logprobs"]["tokens"])
    chat = ask(server, "/v1/chat/completions", {"messages": [{"role": "user", "content": "one"}], "temperature": 0})
    assert chat.json["choices"][0]["message"]["role"] == "bard"
    assert chat.json["usage"]["completion_tokens"] <= 4, "--override-generation-config.max_new_tokens"


def test_streams_come_in_larger_chunks_with_usage(server: OctavoServer) -> None:
    text = ask(server, "/v1/completions", {**COMPLETION, "max_tokens": 8, "stream": True}).text
    events = [json.loads(line) for line in re.findall(r"^data: (\{.*)$", text, re.MULTILINE)]
    assert all("usage" in event for event in events)
    assert events[-1]["usage"]["completion_tokens"] == 8
    assert len([event for event in events if event["choices"]]) <= 4, "--stream-interval 4"


def test_metrics_have_their_prefix(server: OctavoServer) -> None:
    text = ask(server, "/metrics").text
    assert "vllm:num_requests_running{" in text
    assert "octavo:" not in text


@pytest.mark.parametrize("name", sorted(WITHOUT_EFFECT))
def test_what_has_no_effect_says_so(server: OctavoServer, name: str) -> None:
    line = f"--{name.replace('_', '-')} has no effect: {WITHOUT_EFFECT[name].why}"
    assert server.log_text().count(line) == 1


def test_the_log_is_as_quiet_as_asked_for(server: OctavoServer) -> None:
    ask(server, "/v1/completions", COMPLETION)
    log = server.log_text()
    assert "POST /v1/completions" not in log, "--disable-uvicorn-access-log"
    assert "tokens/s" not in log, "--disable-log-stats"
    assert "VLLM_SERVER_DEV_MODE is read as OCTAVO_SERVER_DEV_MODE" in log


@pytest.mark.parametrize("prefix", ["octavo", "vllm"])
def test_every_metric_of_the_dashboards_is_there(server: OctavoServer, tiny_server: OctavoServer, prefix: str) -> None:
    source = {"octavo": tiny_server, "vllm": server}[prefix]
    ask(source, "/v1/completions", COMPLETION)
    there = set(re.findall(r"^([a-z_0-9]+:?[a-z_0-9]+)[ {]", ask(source, "/metrics").text, re.MULTILINE))
    dashboard = Path(__file__).parent.parent.parent / "deploy" / "grafana" / f"{prefix}.json"
    queries = re.findall(r'"expr": "((?:[^"\\]|\\.)*)"', dashboard.read_text())
    named = {name for query in queries for name in re.findall(rf"\b({prefix}:[a-z_0-9]+|process_[a-z_]+)", query)}
    assert len(named) > 12
    assert named <= there, named - there


def check_core_is_measured(server: OctavoServer) -> None:
    before = process_usage(core_pid(server))
    text = ask(server, "/metrics").text
    after = process_usage(core_pid(server))
    [memory] = re.findall(r'^octavo:core_resident_memory_bytes\{model_name="tiny"\} (\S+)$', text, re.MULTILINE)
    [seconds] = re.findall(r'^octavo:core_cpu_seconds_total\{model_name="tiny"\} (\S+)$', text, re.MULTILINE)
    assert before is not None
    assert after is not None
    assert 0.5 < float(memory) / after.resident_bytes < 2
    assert before.cpu_seconds <= float(seconds) <= after.cpu_seconds


def test_the_core_process_is_measured_and_so_is_its_successor(tiny_server: OctavoServer) -> None:
    check_core_is_measured(tiny_server)
    os.kill(core_pid(tiny_server), signal.SIGKILL)
    deadline = time.monotonic() + HANG_GUARD
    while 'core_restarts_total{model_name="tiny"} 1.0' not in ask(tiny_server, "/metrics").text:
        assert time.monotonic() < deadline, tiny_server.log_tail()
        time.sleep(0.1)
    assert ask(tiny_server, "/v1/completions", COMPLETION).status == 200
    check_core_is_measured(tiny_server)


ELSEWHERE = {
    "model", "host", "port",  # every server of these tests has them
    "gpu-memory-utilization", "device-memory-utilization", "num-gpu-blocks-override", "skip-tokenizer-init", "uds", "config",
    "ssl-keyfile", "ssl-certfile", "ssl-ca-certs", "sse-keep-alive-interval",  # test_vllm_commands.py
    "io-processor-plugin",  # tests/plugins/test_server.py
    "pooler-config",  # the test above
}  # fmt: skip


def test_a_decoder_that_embeds(tiny_model_dir: Path, serve: Callable[..., OctavoServer]) -> None:
    ids = [5, 80, 3, 99, 42]
    pooler = json.dumps({"pooling_type": "MEAN", "use_activation": False})
    server = serve(tiny_model_dir, ["--task", "embed", "--pooler-config", pooler, "--dtype", "float32"])
    found = ask(server, "/v1/embeddings", {"input": ids}).json["data"][0]["embedding"]
    reference = transformers.LlamaModel.from_pretrained(tiny_model_dir).eval()
    with torch.no_grad():
        expected = reference(torch.tensor([ids])).last_hidden_state[0].mean(0)
    torch.testing.assert_close(torch.tensor(found), expected, rtol=1e-4, atol=1e-4)


def test_every_served_flag_is_among_those_of_these_servers() -> None:
    here = {flag[2:].partition(".")[0] for flag in (*ENGINE, *SERVER)} | {"tokenizer", "download-dir"}
    assert set(SERVED_FLAGS) <= here | ELSEWHERE
