"""`octavo bench throughput` and `latency` run the engine and report what it did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from octavo.errors import ConfigError
from octavo.tools import bench_latency, bench_throughput

ENGINE = ["--dtype", "float32", "--num-threads", "1", "--max-num-seqs", "8", "--kv-cache-memory-bytes", "32M"]


def test_throughput(tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "numbers.json"
    words = [
        "--model",
        str(tiny_model_dir),
        *ENGINE,
        "--num-prompts",
        "6",
        "--input-len",
        "10",
        "--output-len",
        "4",
        "--n",
        "2",
    ]
    assert bench_throughput.main([*words, "--num-warmups", "1", "--disable-tqdm", "--output-json", str(path)]) == 0
    numbers = json.loads(path.read_text())
    assert numbers["num_requests"] == 6
    assert numbers["total_output_tokens"] == 6 * 2 * 4
    assert numbers["total_num_tokens"] == 6 * 10 + 6 * 2 * 4
    assert numbers["requests_per_second"] == pytest.approx(6 / numbers["elapsed_time"])
    assert "output tokens/s" in capsys.readouterr().out


def test_latency(tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "numbers.json"
    words = ["--model", str(tiny_model_dir), *ENGINE, "--batch-size", "2", "--input-len", "8", "--output-len", "3"]
    assert bench_latency.main([*words, "--num-iters-warmup", "1", "--num-iters", "4", "--output-json", str(path)]) == 0
    numbers = json.loads(path.read_text())
    assert len(numbers["latencies"]) == 4
    assert numbers["avg_latency"] == pytest.approx(sum(numbers["latencies"]) / 4)
    assert numbers["percentiles"]["10"] <= numbers["percentiles"]["99"] <= max(numbers["latencies"])
    assert "Avg latency" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--input-len", "--output-len", "--batch-size", "--num-iters", "--n"])
def test_latency_refuses_nothing_to_do(flag: str) -> None:
    with pytest.raises(ConfigError, match=flag):
        bench_latency.main([flag, "0"])


def test_arithmetic() -> None:
    numbers = bench_throughput.measured(elapsed=2.0, prompt_tokens=30, output_tokens=10, num_requests=4)
    assert (numbers["tokens_per_second"], numbers["output_tokens_per_second"], numbers["requests_per_second"]) == (20, 5, 2)
    assert bench_latency.measured([1.0, 3.0])["percentiles"]["50"] == 2.0
