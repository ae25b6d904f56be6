"""How a server tells of its start: a line and a banner on a terminal, log lines elsewhere."""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import OctavoServer

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "cli"))
from terminal import Terminal

TIMED = re.compile(r"^\d{4}-\d\d-\d\d ", re.MULTILINE)


def serve(model: Path, *flags: str, env: dict[str, str] | None = None) -> Terminal:
    return Terminal("serve", str(model), "--port", "0", *flags, env=env, columns=200)


def test_a_line_and_then_a_banner(tiny_model_dir: Path) -> None:
    with serve(tiny_model_dir) as terminal:
        before = terminal.wait_for("is ready after")
        banner = terminal.wait_for("Ctrl-C\r\n")
        url = re.search(r"API +(http://127.0.0.1:\d+)/v1", banner)
        assert url is not None, banner
        with urllib.request.urlopen(url[1] + "/readyz", timeout=30) as response:
            assert response.status == 200
        with urllib.request.urlopen(url[1] + "/v1/models", timeout=30) as response:
            longest = json.load(response)["data"][0]["max_model_len"]
        terminal.type("\x03")
        terminal.wait_for("SIGINT: stopping")  # from now on the log is shown
        assert terminal.wait_end() == 130
    assert "\n" not in before, "one line, written again and again"
    assert f"{tiny_model_dir.name}: loading the weights" in before
    assert not TIMED.search(before)
    for expected in (
        "LlamaForCausalLM, ",
        " parameters, F32 in ",
        "cpu, ",
        " 1 thread\r\n",
        f"{longest} tokens a request, KV cache for ",
        "no API key",
        f"octavo chat --url {url[1]}\r\n",
        f"browser  {url[1]}/\r\n",
        f"curl {url[1]}/v1/chat/completions",
    ):
        assert expected in banner, expected
    assert "core: weights" not in terminal.output


def test_verbose_says_where_the_time_went_and_a_key_is_not_shown(tiny_model_dir: Path) -> None:
    with serve(tiny_model_dir, "--verbose", "--api-key", "very-secret") as terminal:
        banner = terminal.wait_for("Ctrl-C\r\n")
        terminal.wait_for("core: weights")
        terminal.wait_for("total")
    assert "an API key is needed" in banner
    assert re.search(r"OCTAVO_API_KEY=KEY \S*octavo chat --url", banner)
    assert "Authorization: Bearer KEY" in banner
    assert "very-secret" not in terminal.output


def test_a_level_that_was_asked_for_is_shown_above_the_line(tiny_model_dir: Path) -> None:
    with serve(tiny_model_dir, "--log-level", "info") as terminal:
        before = terminal.wait_for("is ready after")
    assert "listening on http" in before
    assert "KV cache: " in before, "the core's lines, too"


def test_a_start_that_fails_leaves_only_its_reason(tiny_model_dir: Path) -> None:
    with serve(tiny_model_dir, "--num-gpu-blocks-override", "2", "--max-model-len", "512") as terminal:
        assert terminal.wait_end() == 1
    assert "octavo: error: the KV cache has room for" in terminal.output.rpartition("\r\x1b[K")[2]


def test_log_lines_elsewhere(tiny_model_dir: Path, serve: Callable[..., OctavoServer]) -> None:
    log = serve(tiny_model_dir).log_text()
    assert "\x1b" not in log
    assert "Octavo is ready at http" in log
    assert "core: weights" in log


def test_json_lines_from_every_process(tiny_model_dir: Path, serve: Callable[..., OctavoServer]) -> None:
    server = serve(tiny_model_dir, ["--log-format", "json", "--log-level", "debug"])
    server.get("/v1/models")
    server.stop()
    entries = [json.loads(line) for line in server.log_text().splitlines()]
    for entry in entries:
        assert {"time", "level", "process", "pid", "logger", "message"} <= entry.keys()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", entry["time"])
    assert {entry["process"] for entry in entries} == {"server", "core"}
    assert any("Octavo is ready at" in entry["message"] for entry in entries)


def test_a_higher_level_is_quiet_in_every_process(tiny_model_dir: Path, serve: Callable[..., OctavoServer]) -> None:
    server = serve(tiny_model_dir, ["--log-level", "error"])
    server.get("/v1/models")
    server.stop()
    assert server.log_text() == ""


@pytest.mark.parametrize("flag", ["--log-level", "--log-format"])
def test_levels_and_forms_that_there_are(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    from octavo.frontend.cli import serve

    with pytest.raises(SystemExit):
        serve.parse([flag, "loud"])
    assert flag in capsys.readouterr().err
