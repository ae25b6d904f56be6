"""What a person is told who has typed something that cannot be meant so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_openai import FakeOpenAI
from terminal import COMMAND, Terminal

from octavo import LLM
from octavo.errors import ConfigError
from octavo.frontend import command_name
from octavo.frontend.cli import run
from octavo.sources.model_source import find_model


def octavo(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words],
        env={**os.environ, "OCTAVO_OFFLINE": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed command in a folder of its own, started by its path from the folder above."""
    path = tmp_path / "bin" / "octavo"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bin/octavo"])
    monkeypatch.setenv("PATH", "/nowhere")
    return path


def test_the_command_as_it_was_started(script: Path) -> None:
    assert command_name.command() == "bin/octavo"


def test_the_command_where_the_shell_finds_it(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(script.parent))
    assert command_name.command() == "octavo"


def test_the_command_from_elsewhere(script: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", [str(script)])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert command_name.command() == str(script)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["models", "shw"], "there is no action 'shw' (did you mean show?)"),
        (["models", "show", "smolm2"], "(did you mean smollm2?)"),
        (["models", "rm", "qwen33"], "(did you mean qwen3?)"),
        (["run", "--hlep"], "(did you mean --help?)"),
        (["run", ""], "the prompt is empty"),
        (["serve", "qwen2.6"], "(did you mean qwen2.5?)"),
        (["serve", "--max-model-len", "potato", "x"], "must be a positive number"),
        (["serve", "--port", "many"], "argument --port: must be a whole number, got 'many'"),
        (["serve", "--gpu-memory-utilization", "all"], "must be a number, got 'all'"),
        (["serve", "--kv-cache-memory-bytes", "-1G"], "a value that begins with - is written --flag=-1"),
        (["serve", "--allowed-origins", "http://a\r\nX: y"], "--allowed-origins must be printable ASCII"),
    ],
)
def test_one_line_says_what(words: list[str], message: str) -> None:
    done = octavo(*words)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "listening" not in done.stderr or words[1] == "qwen2.6"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port: [1, 2]", "port: takes one value, got a list of 2"),
        ("a: b: c", "is no YAML: line 1, column 5: mapping values are not allowed here"),
        (None, "No such file or directory"),
    ],
)
def test_a_config_file(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "c.yaml"
    if text is not None:
        path.write_text(text)
    done = octavo("serve", "--config", str(path))
    assert done.returncode == 2
    assert f"--config {path}" in done.stderr
    assert message in done.stderr.splitlines()[-1]


def test_a_prompt_taken_for_a_model_is_given_back_whole() -> None:
    with pytest.raises(ConfigError, match=r"run smollm2 'whats up with you'"):
        run.parse(["whats", "up", "with", "you"])


def test_names_that_python_is_given() -> None:
    with pytest.raises(TypeError, match=r"did you mean max_model_len\?"):
        LLM("x", max_modle_len=8)


def test_a_model_from_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_OFFLINE", "1")
    with pytest.raises(ConfigError, match=r"did you mean smollm2\?"):
        find_model("smolm2")


STARTING = {"phase": "starting", "ready": False, "step": "weights", "fraction": 0.5}
READY = {"phase": "ready", "ready": True}


@pytest.mark.parametrize("words", [["chat", "hello", "you"], ["complete", "hello you"]])
def test_a_server_that_is_starting_is_waited_for(words: list[str]) -> None:
    with FakeOpenAI(startups=[STARTING, STARTING, READY]) as fake:
        done = octavo(*words, "--port", fake.url.rpartition(":")[2])
    assert (done.returncode, done.stdout) == (0, "Paris is the capital\n")
    assert "which is starting" in done.stderr
    body = fake.bodies[0]
    assert (body.get("prompt") or body["messages"][0]["content"]) == "hello you"
    assert words[0] == "chat" or body["max_tokens"] == 256


def test_run_waits_for_a_server_that_is_starting() -> None:
    with FakeOpenAI(startups=[STARTING, READY], model="HuggingFaceTB/SmolLM2-135M-Instruct") as fake:
        done = octavo("run", "smollm2", "hi", "--port", fake.url.rpartition(":")[2])
    assert (done.returncode, done.stdout) == (0, "Paris is the capital\n")


def test_run_says_that_a_server_wants_a_key(tiny_model_dir: Path) -> None:
    with FakeOpenAI(key="secret") as fake:
        port = fake.url.rpartition(":")[2]
        done = octavo("run", str(tiny_model_dir), "hi", "--port", port, "--max-tokens", "2")
    assert done.returncode == 0
    assert f"the server on port {port} wants a key" in done.stderr
    assert not fake.bodies


def test_a_misspelled_command_is_asked_about_once(tmp_path: Path) -> None:
    with FakeOpenAI() as fake, Terminal("chat", "--url", fake.url, env={"OCTAVO_CACHE_DIR": str(tmp_path)}) as terminal:
        terminal.wait_for("> ")
        terminal.type("/rest\n")
        terminal.wait_for("did you mean /reset?")
        terminal.wait_for("> ")
        assert not fake.bodies
        terminal.type("/rest\n")
        terminal.wait_for("capital")
        terminal.type("/quit\n")
        assert terminal.wait_end() == 0
    assert fake.bodies[0]["messages"][-1]["content"] == "/rest"
