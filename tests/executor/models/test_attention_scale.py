"""A checkpoint's factor of attention scores."""

from __future__ import annotations

import math

import pytest

from octavo.errors import ConfigError
from octavo.executor.layers.attention import AttentionShape


@pytest.mark.parametrize("scale", [0.0, -0.125, math.nan])
def test_must_be_positive(scale: float) -> None:
    with pytest.raises(ConfigError, match="must be positive"):
        AttentionShape(hidden_size=64, num_heads=2, num_kv_heads=1, head_dim=32, scale=scale)
