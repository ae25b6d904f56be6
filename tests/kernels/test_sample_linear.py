"""Tokens chosen while the head's product is made: the very tokens that its logits, written and sampled, would give."""

from __future__ import annotations

import math

import pytest
import torch
from tolerances import assert_sums

from octavo.kernels import reference


def choose(kernels, x, packed, draws=None) -> tuple[list[int], torch.Tensor]:
    tokens, peaks = torch.full((len(x),), -1), torch.zeros(len(x))
    kernels.sample_linear(x, packed, draws, tokens, peaks)
    return tokens.tolist(), peaks


def from_logits(kernels, x, packed, draws=None) -> tuple[list[int], torch.Tensor]:
    tokens, peaks = torch.full((len(x),), -1), torch.zeros(len(x))
    kernels.sample(kernels.linear(x, packed, True), draws, tokens, peaks)
    return tokens.tolist(), peaks


def drawn(rows: int, rng: torch.Generator) -> torch.Tensor:
    """Draws from all tokens, some rows greedy."""
    draws = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0], dtype=torch.float64).repeat(rows, 1)
    draws[:, 0] = torch.tensor([0.0, 0.3, 1.0, 1.9]).double()[torch.randint(0, 4, (rows,), generator=rng)]
    draws[:, 4] = torch.rand(rows, generator=rng, dtype=torch.float64)
    return draws


def packed_with(kernels, form: str, weight: torch.Tensor, bias: torch.Tensor | None):
    return (kernels.pack_int8 if form == "int8" else kernels.pack_linear)(weight, bias)


@pytest.mark.parametrize("form", ["plain", "int8"])
@pytest.mark.parametrize(("n", "k", "with_bias"), [(1, 32, False), (31, 40, True), (2000, 576, False), (1055, 1500, True)])
def test_the_same_as_from_logits(native, rng, dtype, form, n, k, with_bias):
    x = torch.randn(300, 2 * k, generator=rng).to(dtype)[:, k:]
    bias = torch.randn(n, generator=rng).to(dtype) if with_bias else None
    packed = packed_with(native, form, (torch.randn(n, k, generator=rng) * 3 / k**0.5).to(dtype), bias)
    draws = drawn(300, rng)
    for rows in (1, 3, 16, 17, 33, 300):
        for some in (None, draws[:rows]):
            tokens, peaks = choose(native, x[:rows], packed, some)
            expected, best = from_logits(native, x[:rows], packed, some)
            assert tokens == expected
            assert torch.equal(peaks, best)


def test_no_rows(native):
    assert choose(native, torch.zeros(0, 64), native.pack_linear(torch.zeros(40, 64)))[0] == []


def test_a_row_does_not_depend_on_the_others(native, rng):
    x = torch.randn(64, 128, generator=rng).bfloat16()
    packed = native.pack_linear(torch.randn(3000, 128, generator=rng).bfloat16() / 4)
    draws = drawn(64, rng)
    together, _ = choose(native, x, packed, draws)
    assert together == [choose(native, x[r : r + 1], packed, draws[r : r + 1])[0][0] for r in range(64)]
    native.set_num_threads(1)
    assert choose(native, x, packed, draws)[0] == together


def test_against_the_reference(native, rng):
    x = torch.randn(128, 64, generator=rng)
    weight = torch.randn(5003, 64, generator=rng) / 3
    draws = drawn(128, rng)
    tokens, peaks = choose(native, x, native.pack_linear(weight), draws)
    expected, best = choose(reference, x, reference.pack_linear(weight), draws)
    # A point within rounding of the border between two tokens may fall to either.
    assert sum(a != b for a, b in zip(tokens, expected, strict=True)) <= 1
    assert_sums(peaks, best, 64, (x.abs() @ weight.abs().t()).amax(dim=1))


def test_as_often_as_probable(kernels):
    probabilities = torch.tensor([0.1, 0.4, 0.0, 0.2, 0.3]).repeat_interleave(20) / 20
    draws = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0], dtype=torch.float64).repeat(2000, 1)
    draws[:, 4] = (torch.arange(2000) + 0.5) / 2000
    tokens, _ = choose(kernels, torch.zeros(2000, 8), kernels.pack_linear(torch.zeros(100, 8), probabilities.log()), draws)
    counts = [tokens.count(token) for token in range(100)]
    assert counts == pytest.approx((probabilities * 2000).tolist(), abs=1)
    draws[:, 0] = 0.5
    tokens, _ = choose(kernels, torch.zeros(2000, 8), kernels.pack_linear(torch.zeros(100, 8), probabilities.log()), draws)
    counts = [tokens.count(token) for token in range(100)]
    assert counts == pytest.approx((probabilities**2 / (probabilities**2).sum() * 2000).tolist(), abs=1)


def test_the_lowest_of_equals(kernels):
    bias = torch.zeros(200)
    bias[[190, 45, 46]] = 1.0
    assert choose(kernels, torch.zeros(2, 4), kernels.pack_linear(torch.zeros(200, 4), bias))[0] == [45, 45]
    assert choose(kernels, torch.zeros(2, 4), kernels.pack_linear(torch.zeros(200, 4)))[0] == [0, 0]
    never = torch.full((200,), -math.inf)
    tokens, peaks = choose(kernels, torch.zeros(1, 4), kernels.pack_linear(torch.zeros(200, 4), never))
    assert (tokens, peaks.tolist()) == ([0], [-math.inf])


@pytest.mark.parametrize("temperature", [1e-44, 1e-30, 1e30, 1e300])
def test_extreme_temperatures(kernels, rng, temperature):
    x, weight = torch.randn(1, 16, generator=rng), torch.randn(500, 16, generator=rng)
    draws = torch.tensor([[temperature, 0.0, 1.0, 0.0, 0.301]], dtype=torch.float64)
    packed = kernels.pack_linear(weight)
    (token,), _ = choose(kernels, x, packed, draws)
    assert token == (int((x @ weight.t()).argmax()) if temperature < 1 else 150)
    assert from_logits(kernels, x, packed, draws)[0] == [token]


@pytest.mark.parametrize("with_draws", [False, True])
def test_rows_that_are_not_finite(native, rng, with_draws):
    x, weight = torch.randn(20, 64, generator=rng), torch.randn(1000, 64, generator=rng)
    draws = drawn(20, rng) if with_draws else None
    packed = native.pack_linear(weight)
    clean, _ = choose(native, x, packed, draws)
    x[3, 5], x[11, 0] = torch.nan, torch.inf
    tokens, peaks = choose(native, x, packed, draws)
    expected, best = from_logits(native, x, packed, draws)
    assert tokens == expected
    torch.testing.assert_close(peaks, best, rtol=0, atol=0, equal_nan=True)
    assert peaks[3].isnan()
    assert not peaks[11].isfinite()
    rest = [row for row in range(20) if row not in (3, 11)]
    assert [tokens[row] for row in rest] == [clean[row] for row in rest]


@pytest.mark.parametrize("options", [(5, 1.0, 0.0), (0, 0.9, 0.0), (0, 1.0, 0.1)])
def test_only_from_all_tokens(kernels, options):
    draws = torch.tensor([[1.0, 0.0, 1.0, 0.0, 0.5], [1.0, *options, 0.5]], dtype=torch.float64)
    with pytest.raises(ValueError, match="top_k, top_p and min_p must be off"):
        choose(kernels, torch.zeros(2, 4), kernels.pack_linear(torch.zeros(10, 4)), draws)


def test_misfits_are_refused(native):
    packed = native.pack_linear(torch.zeros(10, 4))
    with pytest.raises(ValueError, match="4 columns"):
        choose(native, torch.zeros(2, 5), packed)
    with pytest.raises(ValueError, match=r"draws must be torch.float64 \[2, 5\]"):
        choose(native, torch.zeros(2, 4), packed, torch.zeros(3, 5).double())
    with pytest.raises(ValueError, match=r"tokens must be torch.int64 \[2\]"):
        native.sample_linear(torch.zeros(2, 4), packed, None, torch.zeros(2), torch.zeros(2))
