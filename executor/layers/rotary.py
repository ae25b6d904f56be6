"""Rotary position embeddings: the table of angles for each way of stretching them.

A key lies rotated in the cache, where requests of any length share it. Its rotation may therefore depend on its position
alone, never on how long its request happens to be. Scalings that transformers switches by the current length (dynamic,
longrope) are fixed here once by the longest sequence the engine serves, max_model_len.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from octavo.errors import ConfigError
from octavo.sources.rope import Rope


def cos_sin_table(rope: Rope | None, head_dim: int, length: int) -> torch.Tensor:
    """Cosines and sines for positions 0 .. length - 1 -> float32 [length, rot], cosines in the first half.

    Without parameters nothing is rotated (rot = 2, angle 0), for layers without position embedding.

    Args:
        rope: as `octavo.sources.rope.rope_parameters` returns them, which has checked them.
        head_dim: values a head.
        length: number of positions.

    Raises:
        ConfigError: factors for another number of frequencies.

    """
    if rope is None:
        return torch.tensor([[1.0, 0.0]]).repeat(length, 1)
    rotated = int(head_dim * rope["partial_rotary_factor"])
    frequencies, magnitude = _SCALINGS[rope["rope_type"]](rope | {"longest": length}, rotated)
    angles = torch.arange(length, dtype=torch.float32).unsqueeze(1) * frequencies
    return torch.cat([angles.cos() * magnitude, angles.sin() * magnitude], dim=1)


def _wavelengths(rope: Rope, rotated: int, theta: float | None = None) -> torch.Tensor:
    """theta^(2i / rotated), the reciprocals of the unscaled frequencies: float32 [rotated / 2]."""
    exponents = torch.arange(0, rotated, 2, dtype=torch.float32) / rotated
    powers: torch.Tensor = (theta or rope["rope_theta"]) ** exponents
    return powers


def _default(rope: Rope, rotated: int) -> tuple[torch.Tensor, float]:
    return 1.0 / _wavelengths(rope, rotated), 1.0


def _linear(rope: Rope, rotated: int) -> tuple[torch.Tensor, float]:
    return 1.0 / _wavelengths(rope, rotated) / rope["factor"], 1.0


def _dynamic(rope: Rope, rotated: int) -> tuple[torch.Tensor, float]:
    """NTK-aware scaling: a larger base, by how far the longest sequence exceeds the trained one."""
    factor, trained = rope["factor"], rope["max_position_embeddings"]
    stretch = factor * max(rope["longest"], trained) / trained - (factor - 1)
    theta = rope["rope_theta"] * stretch ** (rotated / (rotated - 2))
    return 1.0 / _wavelengths(rope, rotated, theta), 1.0


def _llama3(rope: Rope, rotated: int) -> tuple[torch.Tensor, float]:
    """Low frequencies divided by the factor, high ones kept, a ramp between."""
    factor, low, high = rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"]
    frequencies = 1.0 / _wavelengths(rope, rotated)
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies / factor, 1.0


def _longrope(rope: Rope, rotated: int) -> tuple[torch.Tensor, float]:
    """Searched factors for each frequency; the long set when sequences may outgrow the trained length."""
    trained = rope["original_max_position_embeddings"]
    factors = torch.tensor(rope["long_factor"] if rope["longest"] > trained else rope["short_factor"], dtype=torch.float32)
    if factors.shape != (rotated // 2,):
        raise ConfigError(f"longrope needs {rotated // 2} factors, config.json has {factors.numel()}")
    magnitude = rope.get("attention_factor")
    if magnitude is None:
        stretch = rope.get("factor") or rope["max_position_embeddings"] / trained
        magnitude = 1.0 if stretch <= 1 else math.sqrt(1 + math.log(stretch) / math.log(trained))
    return 1.0 / (factors * _wavelengths(rope, rotated)), magnitude


def _yarn(rope: Rope, rotated: int) -> tuple[torch.Tensor, float]:
    """Frequencies with many turns in the trained length kept, those with few divided, a ramp between (Peng et al. 2023)."""
    trained = rope["original_max_position_embeddings"]
    factor = rope.get("factor") or rope["max_position_embeddings"] / trained
    low = _yarn_dimension(rope, rotated, rope.get("beta_fast") or 32)
    high = _yarn_dimension(rope, rotated, rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotated - 1)
    width = high - low or 0.001
    divided = ((torch.arange(rotated // 2, dtype=torch.float32) - low) / width).clamp(0, 1)
    frequencies = 1.0 / _wavelengths(rope, rotated)
    return (1 - divided) * frequencies + divided * frequencies / factor, _yarn_magnitude(rope, factor)


def _yarn_dimension(rope: Rope, rotated: int, turns: float) -> float:
    """Which frequency turns `turns` times within the trained length (a fractional index)."""
    trained = rope["original_max_position_embeddings"]
    return rotated * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(rope["rope_theta"]))


def _yarn_magnitude(rope: Rope, factor: float) -> float:
    if rope.get("attention_factor") is not None:
        return float(rope["attention_factor"])

    def mscale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if rope.get("mscale") and rope.get("mscale_all_dim"):
        return mscale(rope["mscale"]) / mscale(rope["mscale_all_dim"])
    return mscale(1.0)


_SCALINGS: dict[str, Callable[[Rope, int], tuple[torch.Tensor, float]]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "longrope": _longrope,
    "yarn": _yarn,
}
"""rope_type -> (parameters, rotated dimensions) -> frequencies float32 [rotated / 2], factor of cos and sin."""
