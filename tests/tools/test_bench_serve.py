"""`octavo bench serve` from end to end against a fake server: load, numbers, files, picture."""

from __future__ import annotations

import html
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_openai import FakeOpenAI

from octavo.errors import ConfigError
from octavo.tools import bench_serve
from octavo.tools.plot import Chart, Line, svg, ticks
from octavo.version import __version__


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(delay=0.001) as server:
        yield server


@pytest.fixture
def run(fake: FakeOpenAI, tiny_model_dir: Path, tmp_path: Path) -> Any:
    """Run the benchmark with flags; returns (exit code, JSON results)."""

    def bench(*flags: str) -> tuple[int, list[dict[str, Any]]]:
        path = tmp_path / "result.json"
        base = ["--base-url", fake.url, "--tokenizer", str(tiny_model_dir), "--num-prompts", "12", "--random-input-len", "20"]
        base += ["--random-output-len", "5", "--save-result", "--result-dir", str(tmp_path), "--result-filename", "result.json"]
        code = bench_serve.main([*base, *flags])
        return code, [json.loads(line) for line in path.read_text().splitlines()]

    return bench


def test_completions(run: Any, fake: FakeOpenAI, capsys: pytest.CaptureFixture[str]) -> None:
    code, [result] = run("--goodput", "ttft:60000", "--metadata", "machine=here", "--temperature", "0")
    assert code == 0
    assert (result["completed"], result["failed"]) == (12, 0)
    assert (result["total_input_tokens"], result["total_output_tokens"]) == (240, 60)
    assert result["request_goodput"] == result["request_throughput"]
    assert result["mean_ttft_ms"] > 0
    assert result["p99_itl_ms"] >= result["median_itl_ms"]
    assert (result["model_id"], result["request_rate"], result["machine"]) == ("fake", "inf", "here")
    body = fake.bodies[0]
    assert (body["max_tokens"], body["ignore_eos"], body["temperature"]) == (5, True, 0.0)
    text = capsys.readouterr().out
    for label in (
        "Successful requests",
        "Request throughput (req/s)",
        "Mean TTFT (ms)",
        "P99 ITL (ms)",
        "Request goodput (req/s)",
    ):
        assert label in text


def test_chat(run: Any, fake: FakeOpenAI) -> None:
    code, [result] = run("--backend", "openai-chat", "--save-detailed")
    assert code == 0
    assert fake.bodies[0]["messages"][0]["role"] == "user"
    assert fake.bodies[0]["max_completion_tokens"] == 5
    assert result["output_lens"] == [5] * 12
    assert result["generated_texts"][0] == "Paris is the capitalParis"
    assert [len(gaps) for gaps in result["itls"]] == [4] * 12


NO_TOKENS: list[dict[str, Any]] = [
    {"index": 0, "delta": {"role": "assistant"}},
    {"index": 0, "delta": {"content": None}},
    {"index": 0, "delta": {"content": "", "reasoning_content": None, "tool_calls": None}},
    {"index": 0, "text": ""},
    {"index": 0, "text": "", "finish_reason": "length"},
    {"index": 0, "delta": None, "finish_reason": "stop", "token_ids": []},
]


@pytest.mark.parametrize("backend", ["openai", "openai-chat"])
def test_only_chunks_with_tokens_are_timed(run: Any, fake: FakeOpenAI, backend: str) -> None:
    """A role, sent at once, is no first token; a finish reason is no last one."""
    fake.before, fake.after, fake.delay = NO_TOKENS, NO_TOKENS, 0.05
    _, [result] = run("--backend", backend, "--save-detailed", "--num-prompts", "2")
    assert all(ttft >= 0.05 for ttft in result["ttfts"])
    assert [len(gaps) for gaps in result["itls"]] == [4, 4]
    assert result["output_lens"] == [5, 5]


@pytest.mark.parametrize(
    "choice",
    [
        {"delta": {"reasoning_content": "hm"}},
        {"delta": {"reasoning": "hm"}},
        {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}},
        {"delta": {"refusal": "no"}},
        {"delta": {"content": ""}, "token_ids": [7]},
    ],
)
def test_tokens_of_other_kinds_are_timed(run: Any, fake: FakeOpenAI, choice: dict[str, Any]) -> None:
    fake.before = [choice]
    _, [result] = run("--backend", "openai-chat", "--save-detailed", "--num-prompts", "1")
    assert [len(gaps) for gaps in result["itls"]] == [5]


def test_tokens_without_text_are_an_answer(run: Any, fake: FakeOpenAI) -> None:
    fake.empty = True
    code, [result] = run("--backend", "openai-chat", "--save-detailed", "--num-prompts", "1")
    assert (code, result["completed"], result["output_lens"]) == (0, 1, [5])


def test_token_ids(run: Any, fake: FakeOpenAI) -> None:
    run("--prompt-format", "ids")
    assert all(len(body["prompt"]) == 20 and isinstance(body["prompt"][0], int) for body in fake.bodies)


def test_embeddings(run: Any, fake: FakeOpenAI, capsys: pytest.CaptureFixture[str]) -> None:
    code, [result] = run("--backend", "openai-embeddings", "--random-batch-size", "5", "--num-warmups", "1")
    assert code == 0
    warm_up, *bodies = fake.bodies
    assert len(warm_up["input"]) == 1
    assert [len(body["input"]) for body in bodies] == [5, 5, 2]
    assert {body["encoding_format"] for body in bodies} == {"base64"}
    assert (result["completed"], result["total_input_tokens"], result["total_output_tokens"]) == (3, 12 * 7, 0)
    assert result["text_throughput"] == pytest.approx(4 * result["request_throughput"])
    assert result["p99_e2el_ms"] >= result["median_e2el_ms"] > 0
    text = capsys.readouterr().out
    assert "Text throughput (texts/s)" in text
    assert "End-to-end Latency" in text
    assert "generated" not in text
    fake.bodies.clear()
    run("--backend", "openai-embeddings", "--prompt-format", "ids", "--endpoint", "/v1/embeddings")
    assert all(len(body["input"]) == 1 and len(body["input"][0]) == 20 for body in fake.bodies)
    fake.fail_with = 501
    assert run("--backend", "openai-embeddings")[0] == 1


@pytest.mark.parametrize("flags", [["--random-batch-size", "0"], ["--random-batch-size", "2"]])
def test_sizes_of_batches_that_cannot_be(run: Any, flags: list[str]) -> None:
    with pytest.raises(ConfigError, match="--random-batch-size"):
        run(*flags)


def test_concurrency_is_kept(run: Any, fake: FakeOpenAI) -> None:
    _, [result] = run("--max-concurrency", "3")
    assert fake.peak_active == 3
    assert result["max_concurrency"] == 3
    assert result["max_concurrent_requests"] <= 3


def test_rate_spreads_the_requests(run: Any) -> None:
    _, [result] = run("--request-rate", "60", "--burstiness", "50")
    assert result["duration"] >= 12 / 60
    assert result["request_rate"] == 60.0


def test_warm_ups_are_not_measured_prompts(run: Any, fake: FakeOpenAI) -> None:
    _, [result] = run("--num-warmups", "4")
    assert result["completed"] == 12
    assert len(fake.bodies) == 16
    assert not {body["prompt"] for body in fake.bodies[:4]} & {body["prompt"] for body in fake.bodies[4:]}


def test_failures_are_counted_and_shown(run: Any, fake: FakeOpenAI, capsys: pytest.CaptureFixture[str]) -> None:
    fake.fail_with = 500
    code, [result] = run()
    assert code == 1
    assert (result["completed"], result["failed"]) == (0, 12)
    assert "the fake refuses" in capsys.readouterr().err


def test_closed_connection_is_tried_once_more(run: Any, fake: FakeOpenAI) -> None:
    fake.drops = 1
    assert run("--max-concurrency", "1")[1][0]["completed"] == 12
    fake.drops = 2
    assert run("--max-concurrency", "1")[1][0]["failed"] == 1


def test_a_server_that_starts_is_waited_for(run: Any, fake: FakeOpenAI) -> None:
    fake.starting = 2
    code, [result] = run("--ready-check-timeout-sec", "60")
    assert (code, result["completed"], fake.starting) == (0, 12, 0)


def test_broken_stream_is_a_failure(run: Any, fake: FakeOpenAI, capsys: pytest.CaptureFixture[str]) -> None:
    fake.break_after = 2
    code, [result] = run()
    assert (code, result["failed"]) == (1, 12)
    assert "broken" in capsys.readouterr().err


def test_sweep_with_a_picture(run: Any, fake: FakeOpenAI, tmp_path: Path) -> None:
    picture = tmp_path / "out" / "load.html"
    code, results = run("--sweep-concurrency", "1,2,4", "--plot", str(picture), "--metric-percentiles", "90,99")
    assert code == 0
    assert [result["max_concurrency"] for result in results] == [1, 2, 4]
    prompts = [body["prompt"] for body in fake.bodies]
    assert len(set(prompts)) > 30, "each run has prompts of its own"
    page = picture.read_text()
    drawings = [ET.fromstring(part + "</svg>") for part in _between(page, "<svg", "</svg>")]
    assert len(drawings) == 4
    namespace = "{http://www.w3.org/2000/svg}"
    for drawing, curves in zip(drawings, (1, 3, 3, 3), strict=True):
        lines = drawing.findall(f"{namespace}polyline")
        assert len(lines) == curves
        assert all(len((line.get("points") or "").split()) == 3 for line in lines)
    assert not re.search(r"src=|href=|url\(|@import", page), "the page needs nothing from elsewhere"
    text = html.unescape(re.sub(r"<[^>]+>", "\n", page))
    for expected in (
        "12 requests a run, data set random",
        "0 for the first run",
        f"Octavo {__version__}",
        "processors",
        fake.url,
    ):
        assert expected in text, expected
    assert "Median time to first token, ms" in text
    assert "Requests sent a second" not in text, "there was no such limit"
    assert "_ms" not in text


def _between(text: str, start: str, end: str) -> list[str]:
    return [start + part.split(end)[0] for part in text.split(start)[1:]]


def test_picture_as_png(run: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "load.png"
    run("--sweep-request-rate", "200,400", "--plot", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--plot", "x.html"], "--sweep-concurrency"),
        (["--plot", "x.pdf", "--sweep-concurrency", "1,2"], ".html or .png"),
        (["--sweep-concurrency", "1,x"], "--sweep-concurrency"),
        (["--max-concurrency", "0"], "--max-concurrency"),
        (["--percentile-metrics", "ttft,speed"], "'speed'"),
        (["--metric-percentiles", "101"], "--metric-percentiles"),
        (["--goodput", "speed:1"], "--goodput"),
        (["--header", "nothing"], "--header"),
        (["--request-rate", "0"], "--request-rate"),
        (["--backend", "openai-chat", "--prompt-format", "ids"], "--prompt-format"),
    ],
)
def test_impossible_options(run: Any, flags: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(*flags)


def test_no_server(tiny_model_dir: Path) -> None:
    with pytest.raises(ConfigError, match="nothing listens at"):
        bench_serve.main(["--base-url", "http://127.0.0.1:1", "--tokenizer", str(tiny_model_dir)])


@pytest.mark.parametrize(("high", "expected"), [(10.0, 2.0), (1.0, 0.2), (73.0, 20.0), (0.0031, 0.001)])
def test_ticks_are_round_and_reach_the_top(high: float, expected: float) -> None:
    values = ticks(0.0, high)
    assert values[1] - values[0] == pytest.approx(expected)
    assert values[-1] >= high
    assert len(values) <= 7


def test_chart_of_one_point_at_zero() -> None:
    drawing = ET.fromstring(svg(Chart("a < b & c", "x", "y", [Line("only", [(0.0, 0.0)])])))
    assert drawing.tag.endswith("svg")
