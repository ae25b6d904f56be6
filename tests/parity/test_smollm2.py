"""SmolLM2 in float32, greedy: the engine's tokens equal transformers' under every schedule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from parity import smollm2_reference
from parity.prompts import PROMPTS

from octavo import LLM, RequestOutput, SamplingParams

GREEDY = SamplingParams(temperature=0.0, max_tokens=smollm2_reference.NUM_TOKENS)


@pytest.fixture(scope="module")
def reference() -> list[list[int]]:
    """What transformers' `generate` answers to each prompt alone."""
    return smollm2_reference.stored()


@pytest.mark.timeout(600)
def test_the_stored_reference_is_what_transformers_says(
    transformers_smollm2: tuple[Any, Any], reference: list[list[int]]
) -> None:
    assert smollm2_reference.compute(*transformers_smollm2, PROMPTS[::12]) == reference[::12]


def _engine(model: str, **options: Any) -> Iterator[LLM]:
    with LLM(model, dtype="float32", max_model_len=2048, **options) as llm:
        yield llm


@pytest.fixture(scope="module")
def llm(smollm2: str) -> Iterator[LLM]:
    yield from _engine(smollm2)


def _check(outputs: list[RequestOutput], reference: list[list[int]]) -> None:
    for prompt, output, expected in zip(PROMPTS, outputs, reference, strict=True):
        assert output.outputs[0].token_ids == expected, prompt


def test_alone(llm: LLM, reference: list[list[int]]) -> None:
    _check([llm.generate(prompt, GREEDY, use_tqdm=False)[0] for prompt in PROMPTS], reference)


def test_all_at_once_and_again_from_the_prefix_cache(llm: LLM, reference: list[list[int]]) -> None:
    assert llm.reset_prefix_cache()
    first = llm.generate(PROMPTS, GREEDY, use_tqdm=False)
    _check(first, reference)
    second = llm.generate(PROMPTS, GREEDY, use_tqdm=False)
    _check(second, reference)
    assert sum(output.num_cached_tokens for output in second) > 1000


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"max_num_batched_tokens": 16, "max_num_seqs": 16}, id="chunks of 16"),
        pytest.param({"enable_prefix_caching": False}, id="no prefix cache"),
        pytest.param({"async_scheduling": False}, id="synchronous"),
    ],
)
def test_schedules(smollm2: str, reference: list[list[int]], options: dict[str, Any]) -> None:
    for llm in _engine(smollm2, **options):
        outputs = llm.generate(PROMPTS, GREEDY, use_tqdm=False)
        _check(outputs, reference)
        if options.get("enable_prefix_caching") is False:
            assert sum(output.num_cached_tokens for output in outputs) == 0


def test_preempted(smollm2: str, reference: list[list[int]]) -> None:
    """A cache of 40 blocks of 16 tokens: a few requests at a time, and some of them lose their place."""
    with LLM(smollm2, dtype="float32", max_model_len=512, block_size=16, num_gpu_blocks_override=40) as llm:
        outputs = llm.generate(PROMPTS, GREEDY, use_tqdm=False)
        _check(outputs, reference)
        assert sum(output.metrics.num_preemptions for output in outputs if output.metrics) > 0
