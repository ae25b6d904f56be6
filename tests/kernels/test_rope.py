"""Rotary embedding and cache write."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from kv_layout import in_rows
from tolerances import assert_sums

from octavo.kernels import reference


def cos_sin_table(positions: int, rotary_dim: int, base: float = 10000.0) -> torch.Tensor:
    frequencies = base ** (-torch.arange(0, rotary_dim, 2) / rotary_dim)
    angles = torch.outer(torch.arange(positions), frequencies)
    return torch.cat([angles.cos(), angles.sin()], dim=1).float()


class Case:
    """q, k and v as views into one product, and an empty cache."""

    def __init__(self, dtype, cache_dtype, heads=6, kv_heads=2, head_dim=64, rotary_dim=64, tokens=9, block_size=32):
        rng = torch.Generator().manual_seed(tokens)
        self.qkv = torch.randn(tokens, (heads + 2 * kv_heads) * head_dim, generator=rng).to(dtype)
        q, k, v = self.qkv.split([heads * head_dim, kv_heads * head_dim, kv_heads * head_dim], dim=1)
        self.q, self.k, self.v = q.view(tokens, heads, head_dim), k.view(tokens, kv_heads, -1), v.view(tokens, kv_heads, -1)
        self.caches = [torch.zeros(8, kv_heads, block_size, head_dim, dtype=cache_dtype) for _ in range(2)]
        self.positions = torch.randint(0, 100, (tokens,), generator=rng)
        self.slots = torch.randperm(8 * block_size, generator=rng)[:tokens]
        self.slots[2] = -1
        self.table = cos_sin_table(100, rotary_dim)

    @property
    def magnitude(self) -> float:
        """No pair of values adds up to more."""
        return 2 * float(self.qkv.double().abs().max())

    def run(self, kernels) -> None:
        kernels.rope_and_cache(self.q, self.k, self.v, self.positions, self.table, self.slots, *self.caches)
        self.caches = in_rows(kernels, *self.caches, self.q.dtype)


@pytest.mark.parametrize(("head_dim", "rotary_dim"), [(64, 64), (96, 48), (80, 20), (8, 4), (128, 128)])
def test_against_the_reference(native, dtype, head_dim, rotary_dim):
    for cache_dtype, block_size in itertools.product({dtype, torch.float32, torch.bfloat16}, (4, 64)):
        shape = {"head_dim": head_dim, "rotary_dim": rotary_dim, "block_size": block_size}
        actual, expected = (Case(dtype, cache_dtype, **shape) for _ in range(2))
        actual.run(native)
        magnitude = expected.magnitude
        expected.run(reference)
        assert_sums(actual.qkv, expected.qkv, 2, magnitude)
        for mine, theirs in zip(actual.caches, expected.caches, strict=True):
            # A narrower cache gets what was rounded to the type of q before.
            assert_sums(mine, theirs.to(mine.dtype), 2, magnitude)


def test_many_tokens_share_the_work(native):
    actual, expected = (Case(torch.float32, torch.float32, tokens=31, block_size=16) for _ in range(2))
    actual.run(native)
    magnitude = expected.magnitude
    expected.run(reference)
    assert_sums(actual.qkv, expected.qkv, 2, magnitude)
    assert_sums(torch.stack(actual.caches), torch.stack(expected.caches), 2, magnitude)


def test_rotation_by_hand(kernels):
    case = Case(torch.float32, torch.float32, heads=1, kv_heads=1, head_dim=2, rotary_dim=2, tokens=3)
    before, angle, magnitude = case.q.clone(), case.positions.float(), case.magnitude
    case.run(kernels)
    x, y = before[:, 0, 0], before[:, 0, 1]
    assert_sums(case.q[:, 0, 0], x * angle.cos() - y * angle.sin(), 2, magnitude)
    assert_sums(case.q[:, 0, 1], y * angle.cos() + x * angle.sin(), 2, magnitude)


def test_written_keys_are_the_rotated_ones(kernels):
    case = Case(torch.bfloat16, torch.bfloat16)
    case.run(kernels)
    written = case.slots >= 0
    slots = case.slots[written]
    for cache, source in zip(case.caches, (case.k, case.v), strict=True):
        flat = cache.transpose(1, 2).flatten(0, 1)
        assert torch.equal(flat[slots], source[written])
        rest = torch.ones(len(flat), dtype=torch.bool)
        rest[slots] = False
        assert not flat[rest].any()


def test_length_is_kept(kernels):
    case = Case(torch.float32, torch.float32)
    before = case.q.norm(dim=-1)
    case.run(kernels)
    assert_sums(case.q.norm(dim=-1), before, case.q.shape[-1], before)
    assert math.isfinite(float(case.q.sum()))


def test_indices_outside_the_tables_are_refused(native):
    for name, index, bad in (("positions", 4, 100), ("positions", 4, -1), ("slots", 1, 8 * 32)):
        case = Case(torch.float32, torch.float32)
        getattr(case, name)[index] = bad
        with pytest.raises(IndexError):
            case.run(native)
