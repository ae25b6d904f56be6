"""Products in 8 bits: every kernel set gives the bits of the definition, whatever else is in the batch."""

from __future__ import annotations

import pytest
import torch
from tolerances import assert_sums

from octavo.kernels import reference
from octavo.kernels.reference.int8 import MOST_K

SHAPES = [(1, 1, 1), (1, 96, 64), (2, 33, 31), (5, 100, 70), (12, 64, 129), (13, 32, 33), (40, 65, 576), (300, 96, 64)]


def test_integers_of_a_row():
    """The largest magnitude becomes 127, ties go to even, and what rounding costs is half a step at most."""
    values, scales = reference.int8.quantize_rows(torch.tensor([[254.0, -254.0, 1.0, 3.0, 100.9]]))
    assert values.tolist() == [[127, -127, 0, 2, 50]]
    assert scales.tolist() == [[2.0]]


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(("rows", "n", "k"), SHAPES)
def test_bits_of_the_definition(native, rng, dtype, rows, n, k, with_bias):
    x, weight = torch.randn(rows, k, generator=rng).to(dtype), torch.randn(n, k, generator=rng).to(dtype)
    bias = torch.randn(n, generator=rng).to(dtype) if with_bias else None
    packed, expected = native.pack_int8(weight, bias), reference.pack_int8(weight, bias)
    assert torch.equal(native.linear(x, packed), reference.linear(x, expected))
    assert torch.equal(native.linear(x, packed, wide=True), reference.linear(x, expected, wide=True))


@pytest.mark.parametrize("activation", ["silu", "gelu"])
@pytest.mark.parametrize(("rows", "n", "k"), [(1, 16, 64), (3, 19, 70), (20, 96, 576), (270, 40, 700)])
def test_gated(native, rng, dtype, rows, n, k, activation):
    x, weight = torch.randn(rows, k, generator=rng).to(dtype), torch.randn(2 * n, k, generator=rng).to(dtype) * 0.1
    bias = torch.randn(2 * n, generator=rng).to(dtype)
    # The definition rounds gate and up to the type in between.
    packed = reference.pack_int8(weight, bias, gated=True)
    expected = reference.gated_linear(x.float(), packed, activation).to(dtype)
    gate, up = reference.linear(x, packed, wide=True).chunk(2, dim=1)
    # Gate and up are equal to the bit; what is left is the activation, which near its end is a difference of equals.
    assert_sums(native.gated_linear(x, native.pack_int8(weight, bias, gated=True), activation), expected, 2, (gate * up).abs())


def test_near_the_unquantized_product(kernels, rng, dtype):
    x, weight = torch.randn(9, 576, generator=rng).to(dtype), torch.randn(50, 576, generator=rng).to(dtype)
    exact = x.double() @ weight.double().t()
    error = kernels.linear(x, kernels.pack_int8(weight)).double() - exact
    assert error.square().mean().sqrt() < 0.015 * exact.square().mean().sqrt()


@pytest.mark.parametrize(("n", "k"), [(96, 576), (70, 50), (40, 1500)])
def test_a_row_does_not_depend_on_the_others(native, rng, n, k):
    x = torch.randn(300, k, generator=rng).bfloat16()
    packed = native.pack_int8(torch.randn(n, k, generator=rng).bfloat16(), torch.randn(n, generator=rng).bfloat16())
    together = native.linear(x, packed)
    for rows in (1, 2, 7, 12, 13, 16, 17, 33, 257):
        for first in (0, 5, 300 - rows):
            assert torch.equal(native.linear(x[first : first + rows], packed), together[first : first + rows]), (rows, first)


def test_threads_do_not_matter(native, rng):
    x = torch.randn(20, 256, generator=rng)
    packed = native.pack_int8(torch.randn(1000, 256, generator=rng))
    results = []
    for threads in (1, 2, 3):
        native.set_num_threads(threads)
        results.append(native.linear(x, packed))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_strided_input_and_weight(native, rng, dtype):
    x, weight = torch.randn(7, 200, generator=rng).to(dtype), torch.randn(40, 90, generator=rng).to(dtype)
    expected = reference.linear(x[:, 100:164], reference.pack_int8(weight[:, 10:74]))
    assert torch.equal(native.linear(x[:, 100:164], native.pack_int8(weight[:, 10:74])), expected)


def test_extremes(native):
    """The largest integers everywhere, at the longest rows; and signs that cancel."""
    even = reference.int8.mix(torch.ones(1, MOST_K))  # which mixed again is the same everywhere
    x = even * torch.tensor([[1.0], [-1.0], [1.0]])
    x[2, : MOST_K // 2].neg_()
    product = native.linear(x, native.pack_int8(torch.cat([even, even])))
    exact = float(even.square().sum())
    assert_sums(product, torch.tensor([[1.0, 1], [-1, -1], [0, 0]]) * exact, 2, exact)


def test_special_values_stay_in_their_row_and_column(kernels, rng):
    x, weight = torch.randn(20, 64, generator=rng), torch.randn(40, 64, generator=rng)
    weight[7, 3] = torch.nan
    packed = kernels.pack_int8(weight)
    clean = kernels.linear(x, packed)
    assert clean.isnan().all(dim=0).nonzero().flatten().tolist() == [7]
    x[3, 5], x[11, 0], x[13, 63] = torch.nan, torch.inf, -torch.inf
    dirty = kernels.linear(x, packed)
    assert dirty[[3, 11, 13]].isnan().all()
    rest = [row for row in range(20) if row not in (3, 11, 13)]
    torch.testing.assert_close(dirty[rest], clean[rest], rtol=0, atol=0, equal_nan=True)


def test_zeros_and_the_very_small(kernels):
    x = torch.zeros(3, 40)
    x[1, 3], x[2, 3] = 1e-38, 1e-20
    weight = torch.eye(40)
    weight[5] = 0
    product = kernels.linear(x, kernels.pack_int8(weight))
    assert product[0].eq(0).all()
    assert product[1].eq(0).all()
    assert product[2].count_nonzero() == 1
    torch.testing.assert_close(product[2, 3], x[2, 3], rtol=1e-6, atol=0.0)


def test_rows_of_a_packed_table(native, rng, dtype):
    """A table that is both embedding and head is kept once."""
    table = torch.randn(70, 50, generator=rng).to(dtype)
    ids = torch.tensor([69, 0, 31, 32, 33, 0])
    rows = native.embedding(ids, native.pack_int8(table))
    assert rows.dtype == dtype
    assert torch.equal(rows, reference.embedding(ids, reference.pack_int8(table)))
    torch.testing.assert_close(rows, table[ids], rtol=0.01, atol=0.02)


def test_misfits_are_refused(kernels):
    with pytest.raises(ValueError, match="131072"):
        kernels.pack_int8(torch.zeros(1, MOST_K + 1))


def test_misfits_are_refused_by_the_native_set(native):
    packed = native.pack_int8(torch.zeros(8, 16))
    with pytest.raises(ValueError, match="16 columns"):
        native.linear(torch.zeros(2, 17), packed)
    with pytest.raises(ValueError, match="bias"):
        native.pack_int8(torch.zeros(8, 16), torch.zeros(9))
