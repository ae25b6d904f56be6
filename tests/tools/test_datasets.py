"""Data sets give what was asked for: how many prompts, how long, which share a beginning."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import ConfigError
from octavo.tools.datasets import BenchRequest, DatasetOptions, load_requests
from octavo.tools.tokenization import BenchTokenizer


@pytest.fixture(scope="session")
def tokenizer(tiny_model_dir: Path) -> BenchTokenizer:
    return BenchTokenizer.load(str(tiny_model_dir))


def make(tokenizer: BenchTokenizer, seed: int = 0, **options: Any) -> list[BenchRequest]:
    return load_requests(DatasetOptions(**options), tokenizer, seed)


@pytest.mark.parametrize("length", [1, 7, 64, 700])
def test_random_text_tokenizes_to_exactly_the_length(tokenizer: BenchTokenizer, length: int) -> None:
    requests = make(tokenizer, num_prompts=20, random_input_len=length, random_output_len=9)
    assert len(requests) == 20
    for request in requests:
        assert request.prompt is not None
        assert len(tokenizer.encode(request.prompt)) == request.prompt_len == length
        assert request.output_len == 9
    assert len({request.prompt for request in requests}) > 10


def test_random_ids_are_exact_and_not_special(tokenizer: BenchTokenizer) -> None:
    requests = make(tokenizer, num_prompts=30, random_input_len=50, prompt_format="ids")
    assert all(request.prompt is None and request.prompt_len == 50 for request in requests)
    assert min(token for request in requests for token in request.token_ids) > 2


def test_range_ratio_spreads_lengths(tokenizer: BenchTokenizer) -> None:
    requests = make(
        tokenizer, num_prompts=400, random_input_len=100, random_output_len=40, random_range_ratio=0.5, prompt_format="ids"
    )
    lengths = [request.prompt_len for request in requests]
    assert (min(lengths), max(lengths)) == (pytest.approx(50, abs=3), pytest.approx(150, abs=3))
    outputs = [request.output_len for request in requests]
    assert (min(outputs), max(outputs)) == (pytest.approx(20, abs=2), pytest.approx(60, abs=2))


def test_random_prefix_is_shared(tokenizer: BenchTokenizer) -> None:
    requests = make(tokenizer, num_prompts=10, random_prefix_len=20, random_input_len=5, prompt_format="ids")
    assert len({tuple(request.token_ids[:20]) for request in requests}) == 1
    assert all(request.prompt_len == 25 for request in requests)


def test_prefix_repetition(tokenizer: BenchTokenizer) -> None:
    requests = make(
        tokenizer,
        dataset_name="prefix_repetition",
        num_prompts=20,
        prefix_repetition_prefix_len=32,
        prefix_repetition_suffix_len=8,
        prefix_repetition_num_prefixes=4,
        prefix_repetition_output_len=3,
        prompt_format="ids",
    )
    prefixes = Counter(tuple(request.token_ids[:32]) for request in requests)
    assert sorted(prefixes.values()) == [5, 5, 5, 5]
    assert len({tuple(request.token_ids) for request in requests}) == 20
    assert all((request.prompt_len, request.output_len) == (40, 3) for request in requests)


def conversation(prompt: str, answer: str) -> dict[str, Any]:
    return {"conversations": [{"from": "human", "value": prompt}, {"from": "gpt", "value": answer}]}


def test_sharegpt(tokenizer: BenchTokenizer, tmp_path: Path) -> None:
    long = "the capital of France is Paris " * 400
    entries = [conversation(f"the capital of number {i} is", "the answer is seven") for i in range(5)]
    entries += [conversation("x", "too short a prompt"), conversation(long, "too long"), {"conversations": []}]
    path = tmp_path / "sharegpt.json"
    path.write_text(json.dumps(entries))
    requests = make(tokenizer, dataset_name="sharegpt", dataset_path=str(path), num_prompts=12)
    assert len(requests) == 12
    assert {request.prompt for request in requests} == {f"the capital of number {i} is" for i in range(5)}
    assert all(request.output_len == len(tokenizer.encode("the answer is seven")) for request in requests)
    fixed = make(tokenizer, dataset_name="sharegpt", dataset_path=str(path), num_prompts=3, sharegpt_output_len=11)
    assert {request.output_len for request in fixed} == {11}


def test_custom_lines(tokenizer: BenchTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "one", "output_tokens": 5}\n\n{"prompt": "two", "output_tokens": 6}\n')
    options = {"dataset_name": "custom", "dataset_path": str(path), "num_prompts": 4}
    assert {request.output_len for request in make(tokenizer, **options)} == {256}
    own = make(tokenizer, **options, custom_output_len=-1)
    assert {(request.prompt, request.output_len) for request in own} == {("one", 5), ("two", 6)}


def test_seed_decides(tokenizer: BenchTokenizer) -> None:
    options = {"num_prompts": 5, "random_input_len": 20}
    assert make(tokenizer, 1, **options) == make(tokenizer, 1, **options)
    assert make(tokenizer, 1, **options) != make(tokenizer, 2, **options)


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"num_prompts": 0}, "--num-prompts"),
        ({"random_input_len": -1}, "--random-input-len"),
        ({"random_range_ratio": 1.0}, "--random-range-ratio"),
        ({"dataset_name": "sharegpt"}, "--dataset-path"),
        ({"dataset_name": "custom", "dataset_path": "/no/such/file"}, "--dataset-path"),
        ({"dataset_name": "prefix_repetition", "prefix_repetition_num_prefixes": 0}, "--prefix-repetition-num-prefixes"),
    ],
)
def test_impossible_options(tokenizer: BenchTokenizer, options: dict[str, Any], flag: str) -> None:
    with pytest.raises(ConfigError, match=flag):
        make(tokenizer, **options)


@pytest.mark.parametrize("line", ["not json", '{"text": "x"}', "[]"])
def test_broken_line_is_named(tokenizer: BenchTokenizer, tmp_path: Path, line: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "ok"}\n' + line + "\n")
    with pytest.raises(ConfigError, match="line 2"):
        make(tokenizer, dataset_name="custom", dataset_path=str(path), num_prompts=2)
