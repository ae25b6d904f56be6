"""`compare_peers` with real processes: a served model, fake peers, a peer that dies, and an interruption."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from octavo.errors import ConfigError
from octavo.tools import compare_peers
from octavo.tools.compare_options import CompareOptions, Work, parse_work
from octavo.tools.compare_report import START, WORK_METRICS, Comparison, Sample
from octavo.tools.server_process import free_port, port_is_free

PEER = f"{sys.executable} {Path(__file__).parent / 'fake_peer.py'} {{port}}"
THROUGHPUT, TPOT = WORK_METRICS[0], WORK_METRICS[3]


def test_octavo_and_peers(tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--model",
        str(tiny_model_dir),
        "--octavo-args",
        "--num-threads 1 --kv-cache-memory-bytes 16M",
        "--rounds",
        "2",
        "--keep",
    ]
    words += ["--work", "8/4x3@2", "5/3x1@1", "--log-dir", str(tmp_path), "--json", str(tmp_path / "numbers.json")]
    words += ["--peer", f"slow={PEER} 0.2", "--peer", "dead=echo out of luck; exit 3", "--plot", str(tmp_path / "picture.html")]
    assert compare_peers.main(words) == 1, "a peer failed"

    document = json.loads((tmp_path / "numbers.json").read_text())
    assert [fault.splitlines()[0] for fault in document["faults"]] == ["dead: ended with exit code 3; its log ends with:"]
    assert "out of luck" in document["faults"][0]
    summary = document["summary"]
    assert list(summary) == ["8/4x3@2", "5/3x1@1", START]
    tpot = summary["8/4x3@2"]["median_tpot_ms"]
    assert tpot["medians"]["slow"] > 200
    assert tpot["ratios"] == {"slow": tpot["medians"]["octavo"] / tpot["medians"]["slow"]}
    start = summary[START]
    assert start["first_token_s"]["medians"]["slow"] > 0.2
    assert 20 < start["idle_mib"]["medians"]["octavo"] <= start["peak_mib"]["medians"]["octavo"]
    completed = {(sample["server"], sample["work"]): sample["numbers"].get("completed") for sample in document["samples"]}
    assert completed[("octavo", "8/4x3@2")] == completed[("slow", "8/4x3@2")] == 3
    assert len(document["samples"]) == 2 * (2 * 2 + 1), "two servers, each with two rounds of two works in one start"

    table = capsys.readouterr().out
    assert re.search(r"median TPOT ms +lower .* 0\.\d\dx \+ ", table), table
    picture = (tmp_path / "picture.html").read_text()
    assert picture.count("<svg") == len(WORK_METRICS) + 1
    assert_ended(tmp_path)


def assert_ended(log_dir: Path) -> None:
    """Nothing that a fake peer started is left, its child with a session of its own included."""
    children = [int(pid) for log in log_dir.glob("*.log") for pid in re.findall(r"child (\d+)", log.read_text())]
    assert children
    for child in children:
        stat = Path(f"/proc/{child}/stat")
        assert not stat.exists() or ") Z " in stat.read_text()


@pytest.mark.parametrize(
    ("flag", "expected"),
    [("--no-keep", [("a", [0]), ("b", [0]), ("a", [1]), ("b", [1])]), ("--keep", [("a", [0, 1]), ("b", [0, 1])])],
)
def test_rounds_alternate(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, flag: str, expected: list[tuple[str, list[int]]]
) -> None:
    starts = []
    monkeypatch.setattr(
        compare_peers._Run, "_one_start", lambda _, contender, rounds: starts.append((contender.name, list(rounds)))
    )
    words = ["--no-octavo", "--model", str(tiny_model_dir), "--peer", "a=x", "b=y", "--rounds", "2", "--plot", "", "--json", ""]
    assert compare_peers.main([*words, flag]) == 0
    assert starts == expected


def test_no_prompt_comes_twice_to_a_server(tiny_model_dir: Path) -> None:
    works = [Work(8, 4, 3, 2), Work(8, 2, 2, 1)]
    prompts = compare_peers.make_prompts(CompareOptions(tokenizer=str(tiny_model_dir)), works)
    sent = [
        request.prompt
        for index in range(3)
        for work in works
        for warm in (True, False)
        for request in prompts(work, index, warm)
    ]
    assert len(sent) == 3 * (3 + 2 + 2 + 1)
    assert len(set(sent)) == len(sent)
    assert prompts(works[0], 1, False) is prompts(works[0], 1, False), "every server gets the same"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interruption_ends_the_server(tiny_model_dir: Path, tmp_path: Path, how: signal.Signals) -> None:
    words = [
        "--no-octavo",
        "--model",
        str(tiny_model_dir),
        "--peer",
        f"slow={PEER} 5",
        "--log-dir",
        str(tmp_path),
        "--plot",
        "",
    ]
    command = [sys.executable, "-m", "octavo.tools.compare_peers", *words, "--json", "", "--work", "4/9x1@1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        log = tmp_path / "slow-1.log"
        while not (log.exists() and "child" in log.read_text()):
            time.sleep(0.02)
        process.send_signal(how)
        _, error = process.communicate(timeout=120)
    assert (process.returncode, "Traceback" in error) == (130, False), error
    assert_ended(tmp_path)


def sample(server: str, throughput: float, tpot: float, index: int) -> Sample:
    return Sample(server, "w", index, {THROUGHPUT.key: throughput, TPOT.key: tpot})


def test_medians_ratios_and_directions() -> None:
    ours = [sample("octavo", throughput, 10.0, i) for i, throughput in enumerate((90.0, 100.0, 130.0))]
    comparison = Comparison(["octavo", "peer", "gone"], ["w"], [*ours, sample("peer", 50.0, 8.0, 0)])
    cell = comparison.cell("octavo", "w", THROUGHPUT)
    assert cell is not None
    assert (cell.median, cell.spread) == (100.0, 0.2)
    assert comparison.ratio("peer", "w", THROUGHPUT) == 2.0
    assert comparison.ratio("gone", "w", THROUGHPUT) is None
    lines = {line.split("  ")[1]: line for line in comparison.table().splitlines() if line.startswith("  ")}
    assert lines[THROUGHPUT.label].split()[2:] == ["higher", "100", "±20%", "50.0", "-", "2.00x", "+", "-"]
    assert lines[TPOT.label].split()[-3:] == ["1.25x", "-", "-"]


def test_work() -> None:
    assert parse_work("256/128x8@1") == Work(input_len=256, output_len=128, num_prompts=8, concurrency=1)
    assert str(parse_work("256/128x8@1")) == "256/128x8@1"


@pytest.mark.parametrize("text", ["", "256x8@1", "256/128x8@0", "256/128x8@1@1", "a/1x1@1"])
def test_unreadable_work(text: str) -> None:
    with pytest.raises(ConfigError, match="--work must look like"):
        parse_work(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (CompareOptions(rounds=0), "--rounds"),
        (CompareOptions(num_warmups=-1), "--num-warmups"),
        (CompareOptions(octavo=False), "--no-octavo"),
        (CompareOptions(peer=["vllm"]), "--peer must look like NAME=VALUE"),
        (CompareOptions(peer=["octavo=x"]), "names must differ"),
        (CompareOptions(work=["1/1x1@1", "1/1x1@01"]), "--work must not hold the same twice"),
        (CompareOptions(plot="x.pdf"), ".html or .png"),
    ],
)
def test_impossible_options(options: CompareOptions, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        options.check()


def test_placeholders() -> None:
    options = CompareOptions(octavo=False, model="my model", peer=["p=serve {model} '{json}' --port {port}"])
    assert options.contenders()[0].command == "serve 'my model' '{json}' --port {port}"


def test_occupied_port() -> None:
    from socket import socket

    port = free_port()
    assert port_is_free(port)
    with socket() as sock:
        sock.bind(("127.0.0.1", port))
        sock.listen()
        assert not port_is_free(port)
