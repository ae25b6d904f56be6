"""Sampling and log-probabilities: the definition by hand, and native kernels against the reference."""

from __future__ import annotations

import math

import pytest
import torch
from tolerances import assert_sums

from octavo.kernels import reference


def draw(kernels, logits, uniform, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    draws = torch.tensor([[temperature, top_k, top_p, min_p, 0.0]], dtype=torch.float64).repeat(logits.shape[0], 1)
    draws[:, 4] = torch.as_tensor(uniform)
    return sample(kernels, logits, draws)[0].tolist()


def sample(kernels, logits, draws=None) -> tuple[torch.Tensor, torch.Tensor]:
    tokens, peaks = torch.full((len(logits),), -1), torch.zeros(len(logits))
    kernels.sample(logits, draws, tokens, peaks)
    return tokens, peaks


def spread(kernels, probabilities, **options) -> list[int]:
    """Tokens drawn at 100 evenly spaced points of the unit interval, counted."""
    logits = torch.tensor(probabilities).log().repeat(100, 1)
    tokens = draw(kernels, logits, (torch.arange(100, dtype=torch.float64) + 0.5) / 100, **options)
    return [tokens.count(token) for token in range(len(probabilities))]


PROBABILITIES = [0.1, 0.4, 0.2, 0.3]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [10, 40, 20, 30]),
        ({"top_k": 1}, [0, 100, 0, 0]),
        ({"top_k": 2}, [0, 57, 0, 43]),
        ({"top_k": 4}, [10, 40, 20, 30]),
        ({"top_k": 99}, [10, 40, 20, 30]),
        ({"top_p": 0.39}, [0, 100, 0, 0]),
        ({"top_p": 0.69}, [0, 57, 0, 43]),
        ({"top_p": 0.71}, [0, 44, 23, 33]),
        ({"min_p": 0.6}, [0, 57, 0, 43]),
        ({"min_p": 1.0}, [0, 100, 0, 0]),
        ({"temperature": 0.01}, [0, 100, 0, 0]),
        ({"temperature": 1e-60}, [0, 100, 0, 0]),  # zero as a float
        ({"top_k": 3, "top_p": 0.7}, [0, 57, 0, 43]),  # 0.7 of the three that top_k leaves
        ({"min_p": 0.4, "top_p": 0.5}, [0, 57, 0, 43]),
    ],
)
def test_filters_by_hand(kernels, options, expected):
    assert spread(kernels, PROBABILITIES, **options) == pytest.approx(expected, abs=1)


def test_ties_go_to_the_lower_id(kernels):
    assert spread(kernels, [0.25] * 4, top_k=2) == [50, 50, 0, 0]
    assert spread(kernels, [0.25] * 4, top_p=0.4) == [50, 50, 0, 0]


def test_ends_of_the_interval(kernels):
    logits = torch.tensor([[-math.inf, 0.0, 1.0, -math.inf]])
    assert draw(kernels, logits, 0.0) == [1]
    assert draw(kernels, logits, math.nextafter(1.0, 0.0)) == [2]


def test_never_a_token_without_probability(kernels, rng):
    logits = torch.full((200, 1000), -math.inf)
    allowed = torch.randint(0, 1000, (200, 3), generator=rng)
    logits.scatter_(1, allowed, torch.randn(200, 3, generator=rng))
    tokens = draw(kernels, logits, torch.rand(200, generator=rng, dtype=torch.float64), top_p=0.99)
    assert all(token in row for token, row in zip(tokens, allowed.tolist(), strict=True))


@pytest.mark.parametrize("vocab_size", [1, 17, 1000, 49152])
def test_native_is_the_reference(native, rng, vocab_size):
    rows = 64
    logits = torch.randn(rows, vocab_size, generator=rng) * torch.rand(rows, 1, generator=rng) * 6
    choose = lambda values: torch.tensor(values)[torch.randint(0, len(values), (rows,), generator=rng)]  # noqa: E731
    columns = (
        choose([0.0, 0.2, 0.7, 1.0, 1.5]),
        choose([0, 0, 1, 5, 50, 10**6]),
        choose([1.0, 1.0, 0.01, 0.5, 0.9, 0.999]),
        choose([0.0, 0.0, 0.05, 0.5]),
        torch.rand(rows, generator=rng, dtype=torch.float64),
    )
    draws = torch.stack([column.double() for column in columns], dim=1)
    (actual, peaks), (expected, best) = sample(native, logits, draws), sample(reference, logits, draws)
    # A point within rounding of the border between two tokens may fall to either.
    assert (actual != expected).sum() <= 1
    assert torch.equal(peaks, best)
    alone = [sample(native, logits[r : r + 1], draws[r : r + 1])[0].item() for r in range(rows)]
    assert actual.tolist() == alone


def test_plain_draws_are_the_reference(native, rng):
    logits = torch.randn(128, 5003, generator=rng) * 4
    logits[torch.rand(logits.shape, generator=rng) < 0.3] = -math.inf
    draws = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0], dtype=torch.float64).repeat(128, 1)
    draws[:, 0] = 0.25 * torch.randint(0, 9, (128,), generator=rng)
    draws[:, 4] = torch.rand(128, generator=rng, dtype=torch.float64)
    assert (sample(native, logits, draws)[0] != sample(reference, logits, draws)[0]).sum() <= 1


def test_greedy_rows_among_random_ones(kernels, rng):
    logits = torch.randn(6, 1000, generator=rng)
    draws = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.999], dtype=torch.float64).repeat(6, 1)
    drawn, _ = sample(kernels, logits, draws)
    draws[::2, 0] = 0.0
    tokens, peaks = sample(kernels, logits, draws)
    best = logits.max(dim=1)
    assert not (drawn == best.indices).any()
    assert torch.equal(tokens[::2], best.indices[::2])
    assert torch.equal(tokens[1::2], drawn[1::2])
    assert torch.equal(peaks, best.values)


@pytest.mark.parametrize("options", [(0, 1.0, 0.0), (5, 0.9, 0.1)])
def test_rows_that_are_not_finite_are_not_drawn_from(kernels, rng, options):
    logits = torch.randn(4, 1000, generator=rng)
    draws = torch.tensor([0.7, *options, 0.5], dtype=torch.float64).repeat(4, 1)
    expected, _ = sample(kernels, logits, draws)
    logits[0] = -math.inf
    logits[1, [600, 700]] = math.nan
    logits[2, [30, 20]] = math.inf
    tokens, peaks = sample(kernels, logits, draws)
    assert tokens.tolist() == [0, 600, 20, int(expected[3])]
    torch.testing.assert_close(
        peaks, torch.stack([logits[0, 0], logits[1, 600], logits[2, 20], logits[3].max()]), equal_nan=True
    )


@pytest.mark.parametrize("vocab_size", [1, 7, 16, 33, 1000, 1025, 49152])
def test_the_largest(kernels, rng, vocab_size):
    logits = torch.randn(5, vocab_size, generator=rng)
    tokens, peaks = sample(kernels, logits)
    best = logits.max(dim=-1)
    assert torch.equal(tokens, best.indices)
    assert torch.equal(peaks, best.values)


def test_the_lowest_of_equals(kernels):
    logits = torch.zeros(4, 3333)
    logits[1, [3000, 45, 46]] = 1.0
    logits[2] = -torch.inf
    logits[3, [3331, 2017]] = torch.inf
    tokens, peaks = sample(kernels, logits)
    assert tokens.tolist() == [0, 45, 0, 2017]
    assert peaks.tolist() == [0.0, 1.0, -math.inf, math.inf]


@pytest.mark.parametrize("at", [0, 15, 32, 1100, 3332])
def test_a_nan_is_the_largest(kernels, at):
    logits = torch.zeros(1, 3333)
    logits[0, [at, 3332]] = math.nan
    logits[0, 2000] = math.inf
    tokens, peaks = sample(kernels, logits)
    assert tokens.tolist() == [at]
    assert peaks.isnan().all()


@pytest.mark.parametrize("k", [0, 1, 5, 20, 1000])
def test_top_logprobs(kernels, rng, k):
    logits = torch.randn(7, 1000, generator=rng) * 5
    chosen = torch.randint(0, 1000, (7,), generator=rng)
    ids, logprobs, ranks = kernels.top_logprobs(logits, chosen, k)
    exact = torch.log_softmax(logits.double(), dim=-1)
    best = exact.sort(dim=-1, descending=True)
    assert torch.equal(ids[:, 0].long(), chosen)
    assert torch.equal(ids[:, 1:].long(), best.indices[:, :k])
    # A share of the sum is a difference of logarithms.
    assert_sums(logprobs, exact.gather(1, ids.long()).float(), 1000, 1.0)
    assert ranks.tolist() == [best.indices[r].tolist().index(chosen[r]) + 1 for r in range(7)]
    assert (ids.dtype, logprobs.dtype, ranks.dtype) == (torch.int32, torch.float32, torch.int32)


def test_top_logprobs_of_equals_and_of_the_impossible(kernels):
    logits = torch.tensor([[1.0, 3.0, -math.inf, 3.0, 0.0, -0.0]])
    ids, logprobs, ranks = kernels.top_logprobs(logits, torch.tensor([3]), 6)
    assert ids.tolist() == [[3, 1, 3, 0, 4, 5, 2]]
    assert ranks.tolist() == [1]
    assert logprobs[0, -1] == -math.inf


def test_misfits_are_refused(native):
    logits = torch.zeros(2, 10)
    for chosen in ([0, 10], [-1, 0]):
        with pytest.raises(IndexError, match=r"\[0, 10\)"):
            native.top_logprobs(logits, torch.tensor(chosen), 1)
    with pytest.raises(IndexError, match="k must"):
        native.top_logprobs(logits, torch.tensor([0, 1]), 11)
    with pytest.raises(ValueError, match="one value a row"):
        native.top_logprobs(logits, torch.tensor([0]), 1)
    draws, tokens, peaks = torch.zeros(2, 5).double(), torch.zeros(2, dtype=torch.int64), torch.zeros(2)
    for bad in (torch.zeros(3, 5).double(), torch.zeros(2, 5), torch.zeros(5, 2).double().t()):
        with pytest.raises(ValueError, match=r"draws must be torch.float64 \[2, 5\], contiguous"):
            native.sample(logits, bad, tokens, peaks)
    for bad in (tokens[:1], peaks):
        with pytest.raises(ValueError, match=r"tokens must be torch.int64 \[2\]"):
            native.sample(logits, draws, bad, peaks)
        with pytest.raises(ValueError, match=r"tokens must be torch.int64 \[2\]"):
            native.sample(logits, None, bad, peaks)
    with pytest.raises(ValueError, match=r"peaks must be torch.float32 \[2\]"):
        native.sample(logits, None, tokens, peaks.double())
