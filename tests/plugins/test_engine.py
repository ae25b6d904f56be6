"""Plugins around real engines: offline, asynchronous, and while other requests run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo import LLM, AsyncLLM, EngineArgs, PoolingParams, SamplingParams
from octavo.errors import ConfigError, OctavoError, ValidationError
from octavo.plugins.messages import IOProcessorRequest

GREEDY = SamplingParams(temperature=0.0, max_tokens=12)


@pytest.fixture
def llm(tiny_model_dir: Path, packages: dict[str, str]) -> Iterator[LLM]:
    with LLM(str(tiny_model_dir), io_processor_plugin="generating,struct", dtype="float32", disable_log_stats=False) as llm:
        yield llm


def test_a_plugin_generates_offline(llm: LLM) -> None:
    topics = ["hello there", "the sea", "one two three"]
    (output,) = llm.generate({"data": {"topics": topics, "most": 5}}, SamplingParams(temperature=0.0))  # type: ignore[arg-type]
    alone = llm.generate(topics, SamplingParams(temperature=0.0, max_tokens=5), use_tqdm=False)
    assert output.outputs == {"answers": [one.outputs[0].text for one in alone]}
    assert (output.request_id, output.prompt_token_ids, output.finished) == ("", [], True)
    names = {metric.name for metric in llm.get_metrics()}
    assert "octavo:io_processor_phase_seconds" in names


def test_what_offline_prompts_with_data_must_be(llm: LLM) -> None:
    for prompt, words in (
        ({"data": None}, "data must not be None"),
        ({"data": {}, "dada": 1}, "has no 'dada'"),
        ({"data": {}, "io_processor": "x"}, "io_processor must be one of generating, struct"),
        ({"data": {"topics": 5}}, "data.topics: "),
        ([{"data": {}}], "by itself"),
    ):
        with pytest.raises(ValidationError, match=words):
            llm.generate(prompt)  # type: ignore[arg-type]


def test_a_plugin_that_is_missing_ends_the_start_early(tiny_model_dir: Path, packages: dict[str, str]) -> None:
    for name, words in (("generatin", "not installed .did you mean generating"), ("broken", "no_such_module")):
        with pytest.raises(ConfigError, match=words):
            LLM(str(tiny_model_dir), io_processor_plugin=name)


def test_pooling_plugins_offline(tiny_model_dir: Path, packages: dict[str, str]) -> None:
    texts = ["the sea", "a house by the sea", "one"]
    with LLM(
        str(tiny_model_dir), runner="pooling", dtype="float32", io_processor_plugin="document,first", io_processor_workers=1
    ) as llm:
        (output,) = llm.encode({"data": {"texts": texts}}, pooling_task="plugin")  # type: ignore[arg-type]
        alone = llm.embed(texts, use_tqdm=False)
        np.testing.assert_array_equal(output.outputs["rows"], [one.outputs.embedding for one in alone])  # type: ignore[index]
        assert output.outputs["calls"] == ["parse_request", "pre_process", *["validate_or_generate_params"] * 3, "post_process"]  # type: ignore[index]
        (scaled,) = llm.encode({"data": {"text": "the sea", "scale": 3.0}, "io_processor": "first"})  # type: ignore[arg-type]
        assert np.linalg.norm(scaled.outputs) == pytest.approx(3.0, abs=1e-4)  # type: ignore[arg-type]
        (raw,) = llm.encode({"data": {"texts": texts}}, PoolingParams(task="embed", use_activation=False))  # type: ignore[arg-type]
        assert abs(np.linalg.norm(raw.outputs["rows"][0]) - 1.0) > 1e-3  # type: ignore[index]
        with pytest.raises(ValidationError, match="only supported for the 'plugin' pooling task"):
            llm.embed({"data": {"texts": texts}})  # type: ignore[arg-type]


def test_an_asynchronous_engine_encodes_data(tiny_model_dir: Path, packages: dict[str, str]) -> None:
    async def encode() -> Any:
        args = EngineArgs(str(tiny_model_dir), runner="pooling", dtype="float32", io_processor_plugin="document")
        async with AsyncLLM.from_engine_args(args) as engine:
            data: Any = {"data": {"texts": ["the sea"]}}
            return [output async for output in engine.encode(data, PoolingParams(task="embed"), "1")]

    (output,) = asyncio.run(encode())
    assert output.finished
    assert np.linalg.norm(output.outputs["rows"][0]) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("workers", [0, 2], ids=["thread", "processes"])
def test_faults_leave_other_requests_as_they_are(workers: int, tiny_model_dir: Path, packages: dict[str, str]) -> None:
    """50 requests beside plugins that raise, hang, return what they must not, make 1,000 prompts: token for token as alone."""
    faults = [
        {"in": method, "do": do}
        for method in ("parse_request", "pre_process", "params", "post_process")
        for do in ("raise", "refuse", "wrong type", *(["die"] if workers else []))
    ]
    faults += [{"in": "pre_process", "do": do} for do in ("hang", "many", *(["memory"] if workers else ["exit"]))]
    args = EngineArgs(
        str(tiny_model_dir), dtype="float32", io_processor_plugin="faulty", io_processor_timeout=1.0, io_processor_workers=workers,
        io_processor_memory="1G",
    )  # fmt: skip

    async def compare() -> None:
        async with AsyncLLM.from_engine_args(args) as engine:
            prompts = [f"{word} {i}" for i, word in enumerate(["the sea", "a house", "hello", "one two", "x"] * 10)]
            alone = [await _tokens(engine, prompt, f"a{i}") for i, prompt in enumerate(prompts)]
            broken = [_fault(engine, fault, i) for i, fault in enumerate(faults)]
            outcomes = await asyncio.gather(*(_tokens(engine, prompt, f"b{i}") for i, prompt in enumerate(prompts)), *broken)
            assert outcomes[: len(prompts)] == alone
            assert all(isinstance(error, OctavoError) for error in outcomes[len(prompts) :])
            assert engine.num_unfinished == 0

    asyncio.run(compare())


async def _tokens(engine: AsyncLLM, prompt: str, request_id: str) -> Any:
    tokens = []
    async for output in engine.generate(prompt, GREEDY, request_id):
        tokens = output.outputs[0].token_ids
    return tokens


async def _fault(engine: AsyncLLM, data: dict[str, Any], number: int) -> BaseException | None:
    request = IOProcessorRequest(data=data, task="generate")
    try:
        await engine.io_processors.run(engine, request, f"pooling-{number}")
    except OctavoError as error:
        return error
    return None
