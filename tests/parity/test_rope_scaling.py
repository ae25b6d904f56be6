"""Every RoPE scaling against transformers, on sequences longer than the model was trained for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from parity import tiny_hf
from parity.paged import PagedSequences, load

TOLERANCE = 2e-5
TRAINED = 32
SHORT = [1.0, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0, 2.5]
LONG = [1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0]

CASES: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0},
    "yarn-attention-factor": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.3, "beta_fast": 16.0, "beta_slow": 2.0},
    "yarn-mscale": {"rope_type": "yarn", "factor": 4.0, "mscale": 1.2, "mscale_all_dim": 0.7, "truncate": False},
    "longrope": {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, "factor": 4.0},
    "longrope-attention-factor": {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, "attention_factor": 1.5},
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def make_llama(folder: Path, rope: dict[str, Any], **changes: Any) -> Any:
    rope = {"rope_theta": 5000.0, "original_max_position_embeddings": TRAINED} | rope
    sizes = {"head_dim": 16, "num_hidden_layers": 2, "max_position_embeddings": 4 * TRAINED}
    return tiny_hf.make(folder, "LlamaForCausalLM", rope_parameters=rope, **(sizes | changes))


@pytest.mark.parametrize("case", CASES)
def test_beyond_the_trained_length(case: str, tmp_path: Path) -> None:
    reference = make_llama(tmp_path, CASES[case])
    prompt = tiny_hf.token_ids(TRAINED + 12)
    expected = tiny_hf.greedy(reference, prompt, 32)
    sequences = PagedSequences(load(tmp_path, max_model_len=4 * TRAINED))
    assert sequences.greedy("generated", prompt, 32) == expected
    theirs = tiny_hf.logits(reference, prompt + expected)
    assert tiny_hf.difference(sequences.logits("chunks", prompt + expected, chunk=7), theirs) < TOLERANCE


def test_longrope_uses_the_short_factors_when_sequences_stay_short(tmp_path: Path) -> None:
    reference = make_llama(tmp_path, CASES["longrope"])
    ids = tiny_hf.token_ids(TRAINED)
    sequences = PagedSequences(load(tmp_path, max_model_len=TRAINED))
    assert tiny_hf.difference(sequences.logits("a", ids), tiny_hf.logits(reference, ids)) < TOLERANCE


def test_phi3_longrope(tmp_path: Path) -> None:
    rope = {"rope_type": "longrope", "short_factor": SHORT[:6], "long_factor": LONG[:6], "rope_theta": 10000.0}
    reference = tiny_hf.make(
        tmp_path,
        "Phi3ForCausalLM",
        hidden_size=64,
        num_hidden_layers=2,
        original_max_position_embeddings=TRAINED,
        rope_parameters=rope | {"partial_rotary_factor": 0.75},
        sliding_window=40,
    )
    prompt = tiny_hf.token_ids(TRAINED + 12)
    expected = tiny_hf.greedy(reference, prompt, 32)
    assert PagedSequences(load(tmp_path)).greedy("a", prompt, 32) == expected


@pytest.mark.parametrize("length", [TRAINED // 2, 3 * TRAINED])
def test_dynamic_is_fixed_by_the_longest_sequence(length: int, tmp_path: Path) -> None:
    """transformers scales by the sequence at hand; a cache shared by sequences needs one scale for all of them."""
    rope = {"rope_type": "dynamic", "factor": 4.0}
    reference = make_llama(tmp_path, rope, max_position_embeddings=TRAINED)
    ids = tiny_hf.token_ids(length)
    sequences = PagedSequences(load(tmp_path, max_model_len=length))
    theirs = tiny_hf.logits(reference, ids)
    assert tiny_hf.difference(sequences.logits("whole", ids), theirs) < TOLERANCE
    assert tiny_hf.difference(sequences.logits("chunks", ids, chunk=5), theirs) < TOLERANCE


def test_gemma2_past_its_window_and_caps(tmp_path: Path) -> None:
    """Soft caps small enough to bend every score and logit."""
    reference = tiny_hf.make(
        tmp_path, "Gemma2ForCausalLM", head_dim=16, sliding_window=5, attn_logit_softcapping=2.0, final_logit_softcapping=3.0
    )
    prompt = tiny_hf.token_ids(40)
    expected = tiny_hf.greedy(reference, prompt, 32)
    sequences = PagedSequences(load(tmp_path))
    assert sequences.greedy("a", prompt, 32) == expected
    logits = sequences.logits("b", prompt)
    assert float(logits.abs().max()) < 3.0
    assert tiny_hf.difference(logits, tiny_hf.logits(reference, prompt)) < TOLERANCE
