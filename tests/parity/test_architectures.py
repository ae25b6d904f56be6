"""Every architecture against transformers: the same weights, the same logits, the same tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from parity import tiny_hf
from parity.paged import PagedSequences, load

from octavo.kernels import ops

TOLERANCE = 2e-5

GEMMA3_ROPE = {
    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1_000_000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {}),
    "llama-bias-tied": ("LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama-head-dim": ("LlamaForCausalLM", {"head_dim": 32, "num_key_value_heads": 1}),
    "mistral": ("MistralForCausalLM", {"sliding_window": None}),
    "mistral-window": ("MistralForCausalLM", {"sliding_window": 9}),
    "qwen2": ("Qwen2ForCausalLM", {}),
    "qwen2-window": ("Qwen2ForCausalLM", {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 2}),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 16}),
    "qwen3-tied": ("Qwen3ForCausalLM", {"head_dim": 24, "tie_word_embeddings": True, "attention_bias": True}),
    "phi3": ("Phi3ForCausalLM", {"sliding_window": 11}),
    "phi3-partial": ("Phi3ForCausalLM", {"hidden_size": 64, "partial_rotary_factor": 0.75}),
    "gemma": ("GemmaForCausalLM", {"head_dim": 16}),
    "gemma2": ("Gemma2ForCausalLM", {"head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 24}),
    "gemma3": (
        "Gemma3ForCausalLM",
        {"head_dim": 16, "sliding_window": 8, "num_hidden_layers": 7, "rope_parameters": GEMMA3_ROPE},
    ),
    "granite": (
        "GraniteForCausalLM",
        {"embedding_multiplier": 6.0, "attention_multiplier": 0.2, "residual_multiplier": 0.4, "logits_scaling": 3.0},
    ),
    "smollm3": ("SmolLM3ForCausalLM", {}),
    "olmo2": ("Olmo2ForCausalLM", {}),
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("case", CASES)
def test_logits_and_tokens_equal_transformers(case: str, tmp_path: Path) -> None:
    architecture, changes = CASES[case]
    reference = tiny_hf.make(tmp_path, architecture, **changes)
    model = load(tmp_path)
    prompt = tiny_hf.token_ids(24)
    expected = tiny_hf.greedy(reference, prompt, 32)
    theirs = tiny_hf.logits(reference, prompt + expected)

    sequences = PagedSequences(model)
    assert sequences.greedy("generated", prompt, 32) == expected
    assert tiny_hf.difference(sequences.logits("whole", prompt + expected), theirs) < TOLERANCE
    assert tiny_hf.difference(sequences.logits("chunks", prompt + expected, chunk=5), theirs) < TOLERANCE


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "Gemma2ForCausalLM", "GraniteForCausalLM"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_the_head_samples_what_its_logits_say(architecture: str, temperature: float, tmp_path: Path) -> None:
    """Plain logits need not be written; scaled and capped ones are."""
    tiny_hf.make(tmp_path, architecture, **({"head_dim": 16} if architecture.startswith("Gemma") else {}))
    model = load(tmp_path)
    hidden = torch.randn(20, model.hidden_size, generator=torch.Generator().manual_seed(3)) * 4
    draws = torch.tensor([temperature, 0.0, 1.0, 0.0, 0.0], dtype=torch.float64).repeat(20, 1)
    draws[:, 4] = torch.arange(20) / 20
    picked, expected = [(torch.full((20,), -1), torch.zeros(20)) for _ in range(2)]
    model.sample(hidden, draws, *picked)
    ops.sample(model.compute_logits(hidden), draws, *expected)
    assert torch.equal(picked[0], expected[0])
    assert torch.equal(picked[1], expected[1])
    assert len(set(picked[0].tolist())) > 5, "one token for all proves little"


def test_sequences_in_one_step_do_not_mix(tmp_path: Path) -> None:
    reference = tiny_hf.make(tmp_path, "LlamaForCausalLM")
    sequences = PagedSequences(load(tmp_path))
    ids = {name: tiny_hf.token_ids(length, seed=length) for name, length in (("a", 19), ("b", 1), ("c", 30), ("d", 8))}
    sequences.step({name: ids[name][:-1] for name in ("a", "c", "d")})
    mixed = sequences.step({"a": ids["a"][-1:], "b": ids["b"], "c": ids["c"][-1:], "d": ids["d"][-1:]})
    for name, logits in mixed.items():
        assert tiny_hf.difference(logits[-1], tiny_hf.logits(reference, ids[name])[-1]) < TOLERANCE


ALL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 4}
"""Each row goes to all of them: rounding cannot send it to others."""


@pytest.mark.parametrize(("architecture", "changes"), [("LlamaForCausalLM", {}), ("MixtralForCausalLM", ALL_EXPERTS)])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bit_weights_stay_close(dtype: str, architecture: str, changes: dict[str, Any], tmp_path: Path) -> None:
    reference = tiny_hf.make(tmp_path, architecture, initializer_range=0.05, **changes)
    sequences = PagedSequences(load(tmp_path, dtype), getattr(torch, dtype))
    ids = tiny_hf.token_ids(40)
    ours = sequences.logits("a", ids, chunk=16)
    assert ours.dtype == torch.float32
    assert tiny_hf.difference(ours, tiny_hf.logits(reference, ids)) < (0.05 if dtype == "bfloat16" else 0.01)


def test_embeddings_may_replace_token_ids(tmp_path: Path) -> None:
    tiny_hf.make(tmp_path, "Gemma2ForCausalLM", head_dim=16)
    model = load(tmp_path)
    sequences = PagedSequences(model)
    ids = tiny_hf.token_ids(12)
    expected = sequences.logits("ids", ids)
    sequences._grow("embeddings", len(ids))
    positions = torch.arange(len(ids))
    attn = sequences._metadata(["embeddings"], [0, len(ids)], [positions])
    embeddings = ops.embedding(torch.tensor(ids), model.embedding.table) * model.embedding.scale
    hidden = model.forward_embeddings(embeddings, positions, sequences.caches, attn)
    assert torch.equal(model.compute_logits(hidden), expected)
