"""A request's tokens and log-probabilities are the same bits alone, in a batch, in chunks, from the cache, and preempted."""

from __future__ import annotations

from typing import Any

import pytest
from parity.prompts import PROMPTS

from octavo import LLM, RequestOutput, SamplingParams

BATCH = 32
ALONE = (0, 7, 31)
GREEDY = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True, logprobs=3)
FORMS = {"bf16 weights": None, "int8 weights": "int8", "GGUF blocks": "gguf"}
SCHEDULES: dict[str, dict[str, Any]] = {
    "chunks of 16": {"max_num_batched_tokens": 16, "max_num_seqs": 16},
    "one step at a time": {"async_scheduling": False},
    "preempted": {"num_gpu_blocks_override": 24},
}


def bits(outputs: list[RequestOutput]) -> list[list[tuple[int, list[tuple[int, float]]]]]:
    """Of each request the tokens with their log-probabilities, to be compared exactly."""
    return [
        [
            (token, [(i, scored.logprob) for i, scored in scores.items()])
            for token, scores in zip(output.outputs[0].token_ids, output.outputs[0].logprobs or [], strict=True)
        ]
        for output in outputs
    ]


@pytest.fixture(params=list(FORMS))
def engine(request: pytest.FixtureRequest, smollm2: str) -> dict[str, Any]:
    """Arguments of an engine for each form that weights take. A real model: attention in tiles wants heads of 32 and more."""
    return {"model": smollm2, "dtype": "bfloat16", "quantization": FORMS[request.param]}


def test_same_bits_whatever_else_runs(engine: dict[str, Any]) -> None:
    prompts = [f"{PROMPTS[i % len(PROMPTS)]} {'x ' * i}" for i in range(BATCH)]
    common = {**engine, "max_model_len": 512, "disable_log_stats": True}
    with LLM(**common) as llm:
        together = bits(llm.generate(prompts, GREEDY, use_tqdm=False))
        assert bits(llm.generate(prompts, GREEDY, use_tqdm=False)) == together, "from the prefix cache"
        llm.reset_prefix_cache()
        alone = [bits(llm.generate([prompts[i]], GREEDY, use_tqdm=False))[0] for i in ALONE]
    assert alone == [together[i] for i in ALONE]
    for name, options in SCHEDULES.items():
        with LLM(**common, **options) as llm:
            some = prompts if name != "preempted" else prompts[:12]
            assert bits(llm.generate(some, GREEDY, use_tqdm=False)) == together[: len(some)], name
