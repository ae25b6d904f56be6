"""SmolLM2 in float32, greedy: the engine's tokens equal transformers' under every schedule.

All prompts run once, to the end; what a schedule changes shows in some of them too. Tiny models of every architecture go
through every schedule in `test_schedules.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from parity import smollm2_reference
from parity.prompts import PROMPTS

import octavo.kernels.cpu as cpu
from octavo import LLM, RequestOutput, SamplingParams

REFERENCE = list(zip(PROMPTS, smollm2_reference.stored(), strict=True))
"""The prompts, and what transformers' `generate` answers to each alone."""

Reference = list[tuple[str, list[int]]]


@pytest.mark.timeout(600)
def test_the_stored_reference_is_what_transformers_says(transformers_smollm2: tuple[Any, Any]) -> None:
    prompts, answers = zip(*REFERENCE[::24], strict=True)
    computed = smollm2_reference.compute(*transformers_smollm2, list(prompts), num_tokens=24)
    assert computed == [answer[:24] for answer in answers]


def _engine(model: str, **options: Any) -> Iterator[LLM]:
    with LLM(model, dtype="float32", max_model_len=2048, **options) as llm:
        yield llm


@pytest.fixture(scope="module")
def llm(smollm2: str) -> Iterator[LLM]:
    yield from _engine(smollm2)


def _check(llm: LLM, reference: Reference, num_tokens: int = smollm2_reference.NUM_TOKENS) -> list[RequestOutput]:
    """Run the prompts all at once and compare; returns the outputs."""
    greedy = SamplingParams(temperature=0.0, max_tokens=num_tokens)
    outputs = llm.generate([prompt for prompt, _ in reference], greedy, use_tqdm=False)
    for (prompt, expected), output in zip(reference, outputs, strict=True):
        assert output.outputs[0].token_ids == expected[:num_tokens], prompt
    return outputs


def test_alone(llm: LLM) -> None:
    for one in REFERENCE[::10]:
        _check(llm, [one], 32)


def test_all_at_once_and_again_from_the_prefix_cache(llm: LLM) -> None:
    assert llm.reset_prefix_cache()
    _check(llm, REFERENCE)
    again = _check(llm, REFERENCE, 8)
    assert sum(output.num_cached_tokens for output in again) > 1000


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"max_num_batched_tokens": 16, "max_num_seqs": 16}, id="chunks of 16"),
        pytest.param({"enable_prefix_caching": False}, id="no prefix cache"),
        pytest.param({"async_scheduling": False}, id="synchronous"),
    ],
)
def test_schedules(smollm2: str, options: dict[str, Any]) -> None:
    for llm in _engine(smollm2, **options):
        outputs = _check(llm, REFERENCE[1::5], 24)
        if options.get("enable_prefix_caching") is False:
            assert sum(output.num_cached_tokens for output in outputs) == 0


def test_preempted(smollm2: str) -> None:
    """Twelve short prompts grow to five blocks each where there are 30: some of them lose their place."""
    with LLM(smollm2, dtype="float32", max_model_len=448, block_size=16, num_gpu_blocks_override=30) as llm:
        outputs = _check(llm, REFERENCE[:12])
        assert sum(output.metrics.num_preemptions for output in outputs if output.metrics) > 0


@pytest.mark.parametrize("isa", cpu.available_isas() if cpu.available() else [""])
def test_the_default_model_knows_its_capitals(isa: str, smollm2: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is served unless flags say otherwise, on every processor: what the README shows must be an answer."""
    if isa:
        monkeypatch.setenv("OCTAVO_CPU_ISA", isa)
    with LLM(smollm2, max_model_len=512) as llm:
        question = [{"role": "user", "content": "What is the capital of France?"}]
        output = llm.chat(question, SamplingParams(temperature=0.0, max_tokens=16), use_tqdm=False)[0]
    assert "Paris" in output.outputs[0].text
