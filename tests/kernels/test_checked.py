"""OCTAVO_CHECK_OPS: every op both ways, and the first that differs by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from parity import tiny_hf
from parity.paged import PagedSequences, load

import octavo.kernels.cpu as cpu
from octavo import LLM, SamplingParams
from octavo.kernels import ops
from octavo.kernels.checked import OpDiffersError, _compare

pytestmark = pytest.mark.skipif(not cpu.available(), reason="built without native kernels")


@pytest.fixture(autouse=True)
def _checking(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OCTAVO_CHECK_OPS", "1")
    ops.use("cpu")
    yield
    monkeypatch.delenv("OCTAVO_CHECK_OPS")
    ops.use("cpu")


@pytest.mark.parametrize(
    ("architecture", "dtype"),
    [("LlamaForCausalLM", "float32"), ("Gemma2ForCausalLM", "bfloat16"), ("MixtralForCausalLM", "float32")],
)
def test_models_pass(architecture: str, dtype: str, tmp_path: Path) -> None:
    changes = {"head_dim": 32} if architecture.startswith("Gemma") else {}
    reference = tiny_hf.make(tmp_path, architecture, num_hidden_layers=2, **changes)
    sequences = PagedSequences(load(tmp_path, dtype), getattr(torch, dtype), block_size=32)
    tokens = sequences.greedy("a", tiny_hf.token_ids(20), 5)
    if dtype == "float32":
        assert tokens == tiny_hf.greedy(reference, tiny_hf.token_ids(20), 5)


def test_the_first_op_that_differs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_hf.make(tmp_path, "LlamaForCausalLM", num_hidden_layers=2)
    model = load(tmp_path)
    right = cpu.paged_attention
    monkeypatch.setattr(cpu, "paged_attention", lambda *args: right(*args) * 1.01)
    ops.use("cpu")
    with pytest.raises(OpDiffersError, match=r"result 0 of paged_attention differs.*Attend\(.*llama\.py:\d+ of program body"):
        PagedSequences(model).greedy("a", tiny_hf.token_ids(20), 2)


def test_a_served_model_answers_as_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = tiny_hf.make(tmp_path, "LlamaForCausalLM", num_hidden_layers=2)
    prompt = tiny_hf.token_ids(20)
    params = SamplingParams(temperature=0.0, max_tokens=6, ignore_eos=True)
    with LLM(str(tmp_path), dtype="float32", skip_tokenizer_init=True, num_gpu_blocks_override=16) as llm:
        [output] = llm.generate({"prompt_token_ids": prompt}, params, use_tqdm=False)
    assert output.outputs[0].token_ids == tiny_hf.greedy(reference, prompt, 6)


def test_results_of_another_shape_are_told_apart() -> None:
    with pytest.raises(OpDiffersError, match=r"result 0 of linear has the shape \[2, 3\], and of the reference \[2, 4\]"):
        _compare("result 0 of linear", torch.zeros(2, 3), torch.zeros(2, 4))
