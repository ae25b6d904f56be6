"""Products on packed weights: against exact arithmetic, and independence of the number of rows."""

from __future__ import annotations

import pytest
import torch
from tolerances import assert_sums

SHAPES = [(1, 1, 1), (1, 96, 64), (2, 33, 31), (5, 100, 70), (12, 64, 96), (13, 32, 33), (40, 65, 576), (300, 96, 64)]


def exact(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    product = x.double() @ weight.double().t()
    return (product if bias is None else product + bias.double()).to(x.dtype)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(("rows", "n", "k"), SHAPES)
def test_against_exact_arithmetic(kernels, rng, dtype, rows, n, k, with_bias):
    x, weight = torch.randn(rows, k, generator=rng).to(dtype), torch.randn(n, k, generator=rng).to(dtype)
    bias = torch.randn(n, generator=rng).to(dtype) if with_bias else None
    product = kernels.linear(x, kernels.pack_linear(weight, bias))
    magnitude = exact(x.double().abs(), weight.abs(), None if bias is None else bias.abs())
    assert_sums(product, exact(x, weight, bias), k, magnitude)


@pytest.mark.parametrize("pack", ["pack_linear", "pack_int8"])
def test_no_rows(kernels, pack):
    packed = getattr(kernels, pack)(torch.ones(40, 64))
    assert kernels.linear(torch.zeros(0, 64), packed).shape == (0, 40)


def test_strided_input_and_weight(kernels, rng, dtype):
    x, weight = torch.randn(7, 200, generator=rng).to(dtype), torch.randn(40, 90, generator=rng).to(dtype)
    x, weight = x[:, 100:164], weight[:, 10:74]
    product = kernels.linear(x, kernels.pack_linear(weight))
    assert_sums(product, exact(x, weight, None), 64, exact(x.double().abs(), weight.abs(), None))


@pytest.mark.parametrize(("n", "k"), [(96, 576), (70, 50), (40, 1500)])
def test_a_row_does_not_depend_on_the_others(native, rng, dtype, n, k):
    x = torch.randn(600, k, generator=rng).to(dtype)
    packed = native.pack_linear(torch.randn(n, k, generator=rng).to(dtype), torch.randn(n, generator=rng).to(dtype))
    together = native.linear(x, packed)
    for rows in (1, 2, 3, 7, 12, 13, 16, 17, 31, 32, 33, 48, 255, 257):
        for first in (0, 5, 600 - rows):
            assert torch.equal(native.linear(x[first : first + rows], packed), together[first : first + rows]), (rows, first)


@pytest.mark.parametrize(("rows", "n", "k"), [(5, 1000, 256), (250, 300, 64), (600, 100, 704), (1600, 70, 640)])
def test_threads_do_not_matter(native, rng, dtype, rows, n, k):
    x = torch.randn(rows, k, generator=rng).to(dtype)
    packed = native.pack_linear(torch.randn(n, k, generator=rng).to(dtype))
    results = []
    for threads in (1, 2, 3):
        native.set_num_threads(threads)
        results.append(native.linear(x, packed))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_rows_of_a_packed_table(kernels, rng, dtype):
    """A table that is both embedding and head is kept once."""
    table = torch.randn(70, 50, generator=rng).to(dtype)
    ids = torch.tensor([69, 0, 31, 32, 33, 0])
    assert torch.equal(kernels.embedding(ids, kernels.pack_linear(table)), table[ids])


def test_special_values_stay_in_their_row(native, rng):
    x = torch.randn(20, 64, generator=rng)
    clean = native.linear(x, packed := native.pack_linear(torch.randn(40, 64, generator=rng)))
    x[3, 5], x[11, 0] = torch.nan, torch.inf
    dirty = native.linear(x, packed)
    assert dirty[3].isnan().all()
    assert not dirty[11].isfinite().any()
    rest = [row for row in range(20) if row not in (3, 11)]
    assert torch.equal(dirty[rest], clean[rest])


def test_misfits_are_refused(native):
    packed = native.pack_linear(torch.zeros(8, 16))
    with pytest.raises(ValueError, match="16 columns"):
        native.linear(torch.zeros(2, 17), packed)
    with pytest.raises(ValueError, match="float32"):
        native.linear(torch.zeros(2, 16, dtype=torch.bfloat16), packed)
    with pytest.raises(ValueError, match="bias"):
        native.pack_linear(torch.zeros(8, 16), torch.zeros(9))
