"""`octavo bench perplexity` scores every token but the first of each window."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from parity.paged import PagedSequences, load

from octavo.errors import ConfigError
from octavo.tools import bench_perplexity
from octavo.tools.bench_perplexity import cut, measured
from octavo.tools.tokenization import BenchTokenizer


def expected(folder: Path, windows: list[list[int]]) -> float:
    """Perplexity from logits of the model itself, driven without an engine."""
    sequences = PagedSequences(load(folder))
    logprobs = []
    for i, tokens in enumerate(windows):
        rows = sequences.logits(str(i), tokens)[:-1].log_softmax(dim=-1)
        logprobs += rows[torch.arange(len(tokens) - 1), tokens[1:]].tolist()
    return math.exp(-sum(logprobs) / len(logprobs))


def test_run(tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, path = tmp_path / "text.txt", tmp_path / "numbers.json"
    text.write_text("It was the best of times, it was the worst of times. " * 4)
    words = ["--model", str(tiny_model_dir), "--dtype", "float32", "--num-threads", "1", "--kv-cache-memory-bytes", "32M"]
    words += ["--text", str(text), "--window", "10", "--max-tokens", "35", "--disable-tqdm", "--output-json", str(path)]
    assert bench_perplexity.main(words) == 0
    numbers = json.loads(path.read_text())
    assert (numbers["num_windows"], numbers["num_tokens"]) == (4, 9 + 9 + 9 + 4)
    tokens = BenchTokenizer.load(str(tiny_model_dir)).encode(text.read_text())[:35]
    assert numbers["perplexity"] == pytest.approx(expected(tiny_model_dir, cut(tokens, 10)), rel=1e-4)
    assert f"Perplexity: {numbers['perplexity']:.4f}" in capsys.readouterr().out


def test_windows() -> None:
    assert cut([1, 2, 3, 4, 5, 6, 7], 3) == [[1, 2, 3], [4, 5, 6]]
    for tokens, window, problem in (([1, 2], 1, "--window"), ([1], 5, "--text")):
        with pytest.raises(ConfigError, match=problem):
            cut(tokens, window)


def test_arithmetic() -> None:
    numbers = measured([math.log(0.5), math.log(0.125)], num_windows=1, elapsed=0.5)
    assert (round(numbers["perplexity"], 9), numbers["tokens_per_second"]) == (4.0, 4.0)


def test_missing_text(tiny_model_dir: Path) -> None:
    with pytest.raises(ConfigError, match="--text: no file 'nowhere'"):
        bench_perplexity.main(["--model", str(tiny_model_dir), "--text", "nowhere"])
