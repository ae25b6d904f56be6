"""Tiny random models of every architecture, made with transformers and saved as it saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

SIZES: dict[str, Any] = {
    "vocab_size": 160,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    # Wide enough that greedy outputs vary and no two logits tie.
    "initializer_range": 0.2,
}


def make(folder: Path, architecture: str, **changes: Any) -> transformers.PreTrainedModel:
    """A random float32 model, saved in `folder`; norms and biases are random too, so that a forgotten one shows."""
    model_class = getattr(transformers, architecture)
    config = model_class.config_class(**(SIZES | changes))
    config._attn_implementation = "eager"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = model_class(config).float().eval()
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.data += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return model


def token_ids(count: int, seed: int = 0) -> list[int]:
    """Random tokens."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, SIZES["vocab_size"], (count,), generator=generator).tolist()


@torch.no_grad()
def logits(model: transformers.PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """transformers' logits of one sequence, [len(ids), V]."""
    return model(torch.tensor([ids])).logits[0].float()


@torch.no_grad()
def greedy(model: transformers.PreTrainedModel, ids: list[int], count: int) -> list[int]:
    """transformers' greedy continuation."""
    prompt = torch.tensor([ids])
    out = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=count, min_new_tokens=count
    )
    return out[0, len(ids) :].tolist()


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference of two sets of logits, as a share of the largest logit."""
    return float((ours - theirs).abs().max() / theirs.abs().max())
