"""A model whose weights are turned into 8 bits while they are loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from parity import tiny_hf
from parity.paged import PagedSequences, load

from octavo.kernels import ops

IDS = [5, 80, 3, 99, 42, 7]


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def llama(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    tiny_hf.make(folder, "LlamaForCausalLM", num_hidden_layers=2, tie_word_embeddings=request.param)
    return folder


def logits(folder: Path, dtype: torch.dtype, quantization: str | None) -> torch.Tensor:
    model = load(folder, str(dtype).removeprefix("torch."), quantization=quantization)
    return PagedSequences(model, dtype).logits("a", IDS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kernels", ["cpu", "reference"])
def test_logits_stay_close(kernels: str, dtype: torch.dtype, llama: Path) -> None:
    before = ops.current()
    ops.use(kernels)
    try:
        quantized, exact = logits(llama, dtype, "int8"), logits(llama, torch.float32, None)
    finally:
        ops.use(before or None)
    error = (quantized - exact).square().mean().sqrt() / exact.std()
    assert 1e-4 < error < 0.1


def test_steps_do_not_matter(llama: Path) -> None:
    """Alone, in chunks and beside others a sequence gets the same bits."""
    model = load(llama, "bfloat16", quantization="int8")
    sequences = PagedSequences(model, torch.bfloat16)
    alone = sequences.logits("alone", IDS)
    assert torch.equal(sequences.logits("chunked", IDS, chunk=2), alone)
    together = sequences.step({"a": IDS[::-1], "b": IDS, "c": IDS[1:]})
    assert torch.equal(together["b"], alone)


def test_experts_too(tmp_path: Path) -> None:
    tiny_hf.make(tmp_path, "MixtralForCausalLM", num_hidden_layers=2)
    quantized, exact = logits(tmp_path, torch.float32, "int8"), logits(tmp_path, torch.float32, None)
    error = (quantized - exact).square().mean().sqrt() / exact.std()
    assert 1e-4 < error < 0.1
