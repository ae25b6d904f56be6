"""Products of integers with a GGUF file's blocks: the values kept to the bit, and products as the definition has them."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from tolerances import assert_sums, assert_within, sum_error

from octavo.kernels import reference
from octavo.kernels.blocks import BLOCK_KINDS, Blocks
from octavo.kernels.reference.blocks import BlocksLinear, rounded

HALVES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
"""Where the 16-bit scales and minima of a block are."""


@pytest.fixture(params=BLOCK_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def random_blocks(kind: str, n: int, k: int) -> Blocks:
    """All bytes there are, except that scales are finite."""
    rng = np.random.default_rng(3)
    shape = (n * k // BLOCK_KINDS[kind].values, BLOCK_KINDS[kind].bytes)
    data = rng.integers(0, 256, shape, dtype=np.uint8)
    for at in HALVES[kind]:
        data[:, at : at + 2] = (rng.normal(size=(shape[0], 1)) * 0.01).astype(np.float16).view(np.uint8)
    return Blocks(torch.from_numpy(data).view(n, -1), BLOCK_KINDS[kind])


def magnitude(x: torch.Tensor, packed: BlocksLinear) -> torch.Tensor:
    """What the terms of each product add up to without their signs, the bias among them."""
    sums = rounded(x).abs() @ packed.weight.abs().t()
    return sums if packed.bias is None else sums + packed.bias.float().abs()


def test_values_are_those_of_the_gguf_package(kernels, kind):
    blocks = random_blocks(kind, 70, 512)
    expected = torch.from_numpy(gguf.quants.dequantize(blocks.data.numpy(), gguf.GGMLQuantizationType[kind]))
    packed = kernels.pack_blocks(blocks, torch.float32)
    assert torch.equal(kernels.embedding(torch.arange(70), packed), expected)
    packed = kernels.pack_blocks(blocks, torch.bfloat16)
    assert torch.equal(kernels.embedding(torch.tensor([69, 0, 33]), packed), expected[[69, 0, 33]].bfloat16())


@pytest.mark.parametrize(("rows", "n"), [(1, 96), (7, 33), (40, 70)])
def test_products_are_the_references(native, rng, dtype, kind, rows, n):
    blocks, x = random_blocks(kind, n, 768), torch.randn(rows, 768, generator=rng).to(dtype)
    bias = torch.randn(n, generator=rng).to(dtype)
    x[0, 32:64] = 0
    product = native.linear(x, native.pack_blocks(blocks, dtype, bias, integer=True), wide=True)
    packed = reference.pack_blocks(blocks, dtype, bias, integer=True)
    assert_sums(product, reference.linear(x, packed, wide=True), 768, magnitude(x, packed))


@pytest.mark.parametrize("activation", ["silu", "gelu"])
def test_gated(native, rng, dtype, kind, activation):
    blocks, x = random_blocks(kind, 2 * 40, 256), (torch.randn(5, 256, generator=rng) * 0.02).to(dtype)
    bias = torch.randn(80, generator=rng).to(dtype)
    gated = native.gated_linear(x, native.pack_blocks(blocks, dtype, bias, gated=True, integer=True), activation)
    packed = reference.pack_blocks(blocks, dtype, bias, integer=True)
    gate, up = reference.linear(x, packed, wide=True).chunk(2, dim=1)
    activate = {"silu": torch.nn.functional.silu, "gelu": lambda g: torch.nn.functional.gelu(g, approximate="tanh")}
    gate_error, up_error = sum_error(256, magnitude(x, packed)).chunk(2, dim=1)
    # Neither activation is steeper than 1.13 or larger than its argument.
    error = 1.13 * gate_error * (up.abs() + up_error) + gate.abs() * up_error + sum_error(0, (gate * up).abs())
    assert_within(gated, (activate[activation](gate) * up).to(dtype), error)


def test_a_row_does_not_depend_on_the_others(native, rng, kind):
    x = torch.randn(300, 512, generator=rng).bfloat16()
    packed = native.pack_blocks(random_blocks(kind, 70, 512), torch.bfloat16, integer=True)
    together = native.linear(x, packed, wide=True)
    for rows in (1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 257):
        for first in (0, 5, 300 - rows):
            assert torch.equal(native.linear(x[first : first + rows], packed, wide=True), together[first : first + rows])


def test_threads_do_not_matter(native, rng, kind):
    x = torch.randn(5, 256, generator=rng)
    packed = native.pack_blocks(random_blocks(kind, 1000, 256), torch.float32, integer=True)
    native.set_num_threads(1)
    alone = native.linear(x, packed)
    native.set_num_threads(3)
    assert torch.equal(native.linear(x, packed), alone)


def test_special_values_stay_in_their_row(kernels, rng, kind):
    x = torch.randn(20, 256, generator=rng)
    x[7] *= 1e-33
    clean = kernels.linear(x, packed := kernels.pack_blocks(random_blocks(kind, 40, 256), torch.float32, integer=True))
    assert not clean[7].any()
    x[3, 5], x[11, 0] = torch.nan, torch.inf
    dirty = kernels.linear(x, packed)
    assert dirty[[3, 11]].isnan().all()
    rest = [row for row in range(20) if row not in (3, 11)]
    assert torch.equal(dirty[rest], clean[rest])


def test_misfits_are_refused(kernels):
    blocks = random_blocks("Q4_1", 8, 64)
    with pytest.raises(ValueError, match="multiple of 20"):
        kernels.pack_blocks(Blocks(blocks.data[:, :-1], blocks.kind), torch.float32)
    with pytest.raises(ValueError, match="bias"):
        kernels.pack_blocks(blocks, torch.float32, torch.zeros(9))
    with pytest.raises(ValueError, match="bias"):
        kernels.pack_blocks(blocks, torch.bfloat16, torch.zeros(8))
