"""Start scripts and requests of a deployment guide for vLLM 0.6.3 on Ascend, word for word; vLLM's other ways to listen."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from servers import HANG_GUARD, OctavoServer, core_pid, free_port

from octavo.config import EngineArgs
from octavo.frontend.cli import serve
from octavo.frontend.server.options import ServerOptions

OPENAI = """\
export ASCEND_RT_VISIBLE_DEVICES=${ASCEND_RT_VISIBLE_DEVICES}

python -m vllm.entrypoints.openai.api_server --model ${container_model_path} \\
--max-num-seqs=256 \\
--max-model-len=4096 \\
--max-num-batched-tokens=4096 \\
--tensor-parallel-size=1 \\
--block-size=128 \\
--host=${docker_ip} \\
--port=8080 \\
--gpu-memory-utilization=0.9 \\
--num-scheduler-steps=8 \\
--trust-remote-code \\
--enforce-eager
"""
CHAT_TEMPLATE = """\
export ASCEND_RT_VISIBLE_DEVICES=${ASCEND_RT_VISIBLE_DEVICES}

export VLLM_IMAGE_FETCH_TIMEOUT=100
export VLLM_ENGINE_ITERATION_TIMEOUT_S=600
# PYTORCH_NPU_ALLOC_CONF优先设置为expandable_segments:True
# 如果有涉及虚拟显存相关的报错,可设置为expandable_segments:False
export PYTORCH_NPU_ALLOC_CONF=expandable_segments:True

python -m vllm.entrypoints.openai.api_server --model ${container_model_path} \\
--max-num-seqs=256 \\
--max-model-len=4096 \\
--max-num-batched-tokens=4096 \\
--tensor-parallel-size=1 \\
--block-size=128 \\
--chat-template ${chat_template_path} \\
--dtype ${dtype} \\
--host=${docker_ip} \\
--port=${port} \\
--gpu-memory-utilization=0.9 \\
--trust-remote-code
"""
SIMPLE = """\
export ASCEND_RT_VISIBLE_DEVICES=${ASCEND_RT_VISIBLE_DEVICES}

python -m vllm.entrypoints.api_server --model ${container_model_path} \\
--max-num-seqs=256 \\
--max-model-len=4096 \\
--max-num-batched-tokens=4096 \\
--tensor-parallel-size=1 \\
--block-size=128 \\
--host=${docker_ip} \\
--port=8080 \\
--gpu-memory-utilization=0.9 \\
--trust-remote-code \\
--enforce-eager
"""
HIGH_PRECISION_AND_GRAPHS = """\
export USE_PFA_HIGH_PRECISION_MODE=1
export USE_IFA_HIGH_PRECISION_MODE=1
export USE_PREFIX_HIGH_PRECISION_MODE=1
export INFER_MODE=PTA
export PTA_TORCHAIR_DECODE_GEAR_ENABLE=1
export PTA_TORCHAIR_DECODE_GEAR_LIST=2,4,6,8,16,32
export VLLM_ENGINE_ITERATION_TIMEOUT_S=1500
export HCCL_OP_EXPANSION_MODE=AIV
export EAGLE_USE_SAFE_AI_LAB_STYLE=1
export ENABLE_SPEC_METRIC=0
"""

NOTHING = EngineArgs(), ServerOptions()
LINES: dict[str, tuple[EngineArgs, ServerOptions] | str] = {
    "--model /models/one": (EngineArgs(model="/models/one"), ServerOptions()),
    "--max-num-seqs=256": (EngineArgs(max_num_seqs=256), ServerOptions()),
    "--max-model-len=4096": (EngineArgs(max_model_len=4096), ServerOptions()),
    "--max-num-batched-tokens=4096": (EngineArgs(max_num_batched_tokens=4096), ServerOptions()),
    "--tensor-parallel-size=1": NOTHING,
    "--block-size=128": (EngineArgs(block_size=128), ServerOptions()),
    "--host=0.0.0.0": (EngineArgs(), ServerOptions(host="0.0.0.0")),
    "--port=8080": (EngineArgs(), ServerOptions(port=8080)),
    "--gpu-memory-utilization=0.9": (EngineArgs(gpu_memory_utilization=0.9), ServerOptions()),
    "--num-scheduler-steps=8": NOTHING,
    "--trust-remote-code": NOTHING,
    "--enforce-eager": NOTHING,
    "--chat-template /models/template.jinja": (EngineArgs(chat_template="/models/template.jinja"), ServerOptions()),
    "--dtype bfloat16": (EngineArgs(dtype="bfloat16"), ServerOptions()),
    "--multi-step-stream-outputs false": NOTHING,
    "--distributed-executor-backend mp": NOTHING,
    "--distributed-executor-backend ray": "has no Ray",
    "--disable-async-output-proc": NOTHING,
    "--enable-prefix-caching": NOTHING,
    "--enable-lora": "has no LoRA adapters",
    "--lora-modules lora1=/path/to/lora/adapter1/ lora2=/path/to/lora/adapter2/": "has no LoRA adapters",
    "--max-lora-rank=16": NOTHING,
    "--max-loras=32": NOTHING,
    "--max-cpu-loras=32": NOTHING,
    "--quantization awq": "has no AWQ weights",
    "--quantization smoothquant": "has no quantized safetensors",
    "--speculative-model /models/draft": "has no speculative decoding",
    "--speculative-draft-tensor-parallel-size=1": NOTHING,
    "--num-speculative-tokens 5": "has no speculative decoding",
    "--served-model-name one": (EngineArgs(served_model_name=["one"]), ServerOptions()),
    "--task generate": (EngineArgs(task="generate"), ServerOptions()),
    "--limit-mm-per-prompt image=2": NOTHING,
}
"""Each flag line of the guide: what it makes of the options, or what its refusal says is missing."""


@pytest.mark.parametrize("line", LINES)
def test_each_flag_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    meant = LINES[line]
    if not isinstance(meant, str):
        assert serve.parse(line.split()) == meant
        return
    with pytest.raises((SystemExit, ValueError)) as caught:
        serve.parse(line.split())
    assert f"this version {meant}" in f"{caught.value}{capsys.readouterr().err}"


@pytest.fixture(scope="module")
def long_model(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, said to have been made for 4096 tokens."""
    folder = tmp_path_factory.mktemp("models") / "long"
    shutil.copytree(tiny_model_dir, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))
    (folder / "template.jinja").write_text("{% for m in messages %}[{{ m.content }}]{% endfor %}")
    return folder


class ScriptServer(OctavoServer):
    """A server that a shell script starts."""

    def __init__(self, script: str, model: Path, env: Mapping[str, str]) -> None:
        super().__init__(model, env={**env})
        python = f'exec "{sys.executable}" -m octavo.'
        script = script.replace("python -m vllm.", python).replace("--port=8080", f"--port={self.port}")
        self._command = ["bash", "-c", script]
        self._env |= {
            "container_model_path": str(model), "docker_ip": "127.0.0.1", "port": str(self.port), "dtype": "bfloat16",
            "chat_template_path": str(model / "template.jinja"), "ASCEND_RT_VISIBLE_DEVICES": "0",
        }  # fmt: skip
        self._env.pop("CUDA_VISIBLE_DEVICES", None)


def core_environment(server: OctavoServer) -> dict[str, str]:
    """What the core of a server sees."""
    entries = Path(f"/proc/{core_pid(server)}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def test_the_openai_server(long_model: Path) -> None:
    with ScriptServer(HIGH_PRECISION_AND_GRAPHS + OPENAI, long_model, {"VLLM_SERVER_DEV_MODE": "1"}) as server:
        config = json.loads(server.get("/server_info?config_format=json"))["config"]
        assert (config["scheduler"]["max_num_seqs"], config["scheduler"]["max_num_batched_tokens"]) == (256, 4096)
        assert (config["model"]["max_model_len"], config["cache"]["block_size"]) == (4096, 128)
        assert config["cache"]["memory_utilization"] == 0.9
        body = {
            "model": str(long_model), "messages": [{"role": "user", "content": "hello"}], "max_tokens": 10, "top_k": -1,
            "top_p": 1, "temperature": 0, "ignore_eos": False, "stream": False,
        }  # fmt: skip
        assert server.post("/v1/chat/completions", body)["choices"][0]["message"]["role"] == "assistant"
        # What online_serving.py sends: its --stream is an int, its --top-p too.
        as_script = {**body, "stream": 0, "top_p": 1.0, "max_tokens": "10", "temperature": "0"}
        assert server.post("/v1/chat/completions", as_script)["usage"] == server.post("/v1/chat/completions", body)["usage"]
        log = server.log_text()
        for line in HIGH_PRECISION_AND_GRAPHS.splitlines():
            name = line.removeprefix("export ").partition("=")[0]
            assert len(re.findall(rf"\b{name} (has no effect: \w|is read as \w)", log)) == 1, name
        assert core_environment(server)["CUDA_VISIBLE_DEVICES"] == "0"


def test_the_openai_server_with_a_template(long_model: Path) -> None:
    with ScriptServer(CHAT_TEMPLATE, long_model, {}) as server:
        tokens = server.post("/tokenize", {"messages": [{"role": "user", "content": "hello"}]})["tokens"]
        assert server.post("/detokenize", {"tokens": tokens})["prompt"] == "[hello]"
        log = server.log_text()
        assert "VLLM_ENGINE_ITERATION_TIMEOUT_S is read as OCTAVO_STEP_TIMEOUT" in log
        assert "VLLM_IMAGE_FETCH_TIMEOUT has no effect: this version has no multimodal models" in log
        assert core_environment(server)["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"


def test_the_simple_server(long_model: Path) -> None:
    with ScriptServer(SIMPLE, long_model, {}) as server:
        body = {"prompt": "hello", "max_tokens": 10, "temperature": 0, "ignore_eos": False, "presence_penalty": 2}
        assert server.post("/generate", body)["text"][0].startswith("hello")
        beams = {"use_beam_search": True, "best_of": 2, "length_penalty": 2, "top_k": -1, "top_p": 1}
        with pytest.raises(urllib.error.HTTPError) as caught:
            server.post("/generate", {**body, **beams})
        assert "this version has no beam search" in caught.value.read().decode()


@pytest.mark.parametrize("words", ["--enable-lora", "-tp 2", "--grpc", "--quantization awq", "--kv-cache-dtype fp8"])
def test_a_refusal_ends_the_command_at_once(words: str) -> None:
    command = [sys.executable, "-m", "octavo.frontend.cli.main", "serve", *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_GUARD, check=False)
    assert done.returncode in (1, 2)
    assert words.partition(" ")[0].replace("-tp", "--tensor-parallel-size") in done.stderr
    assert "is not supported: this version has no " in done.stderr


@contextmanager
def server_on_a_socket(config: Path, env: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "octavo.frontend.cli.main", "serve", "--config", str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OCTAVO_NUM_THREADS": "1", **env}
    with (
        config.with_suffix(".log").open("w") as log,
        subprocess.Popen(command, stderr=log, env=environment, text=True) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)


def ask(path: str, context: ssl.SSLContext, uds: Path, body: Any = None) -> tuple[int, str]:
    """Status and body, over TLS through a Unix socket."""
    connection = http.client.HTTPConnection("localhost", timeout=HANG_GUARD)
    plain = socket.socket(socket.AF_UNIX)
    plain.connect(str(uds))
    connection.sock = context.wrap_socket(plain, server_hostname="localhost")
    try:
        data = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def wait_ready(process: subprocess.Popen[str], context: ssl.SSLContext, uds: Path, log: Path) -> None:
    deadline = time.monotonic() + HANG_GUARD
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if ask("/readyz", context, uds)[0] == 200:
                return
        except OSError:
            pass  # not yet listening
        time.sleep(0.05)
    raise TimeoutError(log.read_text())


def test_a_unix_socket_with_certificates_by_a_config_file(tiny_model_dir: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("makes its certificate with openssl")
    key, chain, uds, config = (tmp_path / name for name in ("key.pem", "chain.pem", "s", "options.yaml"))
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(chain)]
    subprocess.run(made, check=True, capture_output=True)
    options = {
        "model": str(tiny_model_dir), "uds": str(uds), "ssl-keyfile": str(key), "ssl_certfile": str(chain),
        "ssl-ca-certs": str(chain), "skip-tokenizer-init": True, "load_format": "dummy", "num-gpu-blocks-override": 64,
        "device_memory_utilization": 0.5, "max-num-batched-tokens": 128, "sse-keep-alive-interval": 0.01, "seed": 3,
        "enable-chunked-prefill": True, "port": free_port(),
    }  # fmt: skip
    config.write_text("\n".join(f"{name}: {json.dumps(value)}" for name, value in options.items()))
    env = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    stranger = ssl.create_default_context(cafile=str(chain))
    friend = ssl.create_default_context(cafile=str(chain))
    friend.load_cert_chain(chain, key)
    with server_on_a_socket(config, env) as process:
        wait_ready(process, friend, uds, config.with_suffix(".log"))
        with pytest.raises(OSError, match=r"(?i)certificate|reset|EOF|broken|closed"):
            ask("/livez", stranger, uds)
        shown = json.loads(ask("/server_info?config_format=json", friend, uds)[1])["config"]
        assert (shown["model"]["skip_tokenizer_init"], shown["model"]["format"]) == (True, "dummy")
        assert (shown["cache"]["num_blocks"], shown["cache"]["memory_utilization"]) == (64, 0.5)
        assert shown["cache"]["memory_bytes"] is None, "a flag for the cache's size goes before VLLM_CPU_KVCACHE_SPACE"
        assert 'num_gpu_blocks="64"' in ask("/metrics", friend, uds)[1]
        assert ask("/v1/completions", friend, uds, {"prompt": "text"})[0] == 400
        body = {"prompt": [5] * 1500, "max_tokens": 2, "stream": True, "ignore_eos": True}
        status, text = ask("/v1/completions", friend, uds, body)
        assert status == 200
        assert re.search(r"^:", text, re.MULTILINE), "a comment line while the prompt is read"
    assert process.returncode == 0
