"""Weights that stay as they are stored: the bits that widened ones give, whatever the form, the rows and the epilogue."""

from __future__ import annotations

from typing import Any

import gguf
import pytest
import torch
from test_blocks import random_blocks

from octavo.kernels.blocks import BLOCK_KINDS

HALVES = {"BF16": torch.bfloat16, "F16": torch.float16}
K = 1536  # many rows go through a panel in parts


@pytest.fixture(params=[*BLOCK_KINDS, *HALVES])
def form(request: pytest.FixtureRequest) -> str:
    return request.param


def both(kernels: Any, form: str, dtype: torch.dtype, n: int, gated: bool = False, bias: bool = True) -> tuple[Any, Any]:
    """A weight [n, K] as it is stored, and widened to dtype."""
    rng = torch.Generator().manual_seed(5)
    added = torch.randn(n, generator=rng).to(dtype) if bias else None
    if form in HALVES:
        weight = (torch.randn(n, K, generator=rng) * 0.05).to(HALVES[form])
        weight.view(-1)[::199] *= 1e3  # exponents that are rare
        return kernels.pack_linear(weight, added, gated, dtype), kernels.pack_linear(weight.to(dtype), added, gated)
    blocks = random_blocks(form, n, K)
    values = gguf.quants.dequantize(blocks.data.numpy(), gguf.GGMLQuantizationType[form])
    widened = torch.from_numpy(values).to(dtype)
    return kernels.pack_blocks(blocks, dtype, added, gated), kernels.pack_linear(widened, added, gated)


def assert_same_bits(a: torch.Tensor, b: torch.Tensor) -> None:
    bits = torch.int32 if a.dtype == torch.float32 else torch.int16
    assert torch.equal(a.view(bits), b.view(bits))


def types_of(form: str) -> list[torch.dtype]:
    """What x may be."""
    return [torch.float32] if form in HALVES else [torch.float32, torch.bfloat16, torch.float16]


def test_products_of_any_number_of_rows(native, rng, form):
    for dtype in types_of(form):
        stored, widened = both(native, form, dtype, 70)
        x = torch.randn(300, K, generator=rng).to(dtype)
        for rows in (*range(1, 65), 300):
            assert_same_bits(native.linear(x[:rows], stored), native.linear(x[:rows], widened))
        assert_same_bits(native.linear(x, stored, wide=True), native.linear(x, widened, wide=True))


@pytest.mark.parametrize("rows", [1, 3, 16, 40])
def test_gates(native, rng, form, rows):
    for dtype in types_of(form):
        stored, widened = both(native, form, dtype, 80, gated=True)
        x = (torch.randn(rows, K, generator=rng) * 0.02).to(dtype)
        for activation in ("silu", "gelu"):
            assert_same_bits(native.gated_linear(x, stored, activation), native.gated_linear(x, widened, activation))


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_the_heads_choice(native, rng, form, rows):
    for dtype in types_of(form):
        x = torch.randn(rows, K, generator=rng).to(dtype)
        chosen = []
        for packed in both(native, form, dtype, 100, bias=False):
            tokens, peaks = torch.empty(rows, dtype=torch.int64), torch.empty(rows)
            native.sample_linear(x, packed, None, tokens, peaks)
            chosen.append((tokens, peaks))
        assert torch.equal(chosen[0][0], chosen[1][0])
        assert_same_bits(chosen[0][1], chosen[1][1])


def test_rows_that_are_looked_up(kernels, form):
    ids = torch.tensor([69, 0, 33, 33, 5])
    for dtype in types_of(form):
        stored, widened = both(kernels, form, dtype, 70, bias=False)
        assert torch.equal(kernels.embedding(ids, stored), kernels.embedding(ids, widened))


def test_takes_no_more_bits_than_are_stored(native, form):
    stored, widened = both(native, form, torch.float32, 96, bias=False)
    if native.isa() == "portable":  # where decoding takes longer than it saves
        assert stored.data.nbytes == widened.data.nbytes
        return
    bits = 16 if form in HALVES else BLOCK_KINDS[form].bytes * 8 / BLOCK_KINDS[form].values
    # Factors of 6 bits take 8.
    assert stored.data.nbytes <= widened.data.nbytes * (bits / 32) * 1.03


def test_types_that_do_not_fit_are_refused(native):
    with pytest.raises(ValueError, match="takes activations of its type or float32"):
        native.pack_linear(torch.zeros(8, 32, dtype=torch.bfloat16), None, False, torch.float16)
    with pytest.raises(ValueError, match="bias must be"):
        native.pack_linear(torch.zeros(8, 32).bfloat16(), torch.zeros(8).bfloat16(), False, torch.float32)
