"""bf16 weights in 12 bits: nothing is lost, whatever their exponents are, and every instruction set reads them."""

from __future__ import annotations

import importlib

import pytest
import torch

import octavo.kernels.cpu as cpu

native_linear = importlib.import_module("octavo.kernels.cpu.linear")  # the package's attribute of that name is the function

pytestmark = pytest.mark.skipif(not cpu.available(), reason="built without native kernels")


def weights(kind: str, k: int, rng: torch.Generator) -> torch.Tensor:
    """[70, k] of the kind of values named."""
    weight = torch.randn(70, k, generator=rng) * 0.05
    if kind == "rare exponents":  # a few a panel, first and last value among them
        weight.view(-1)[::199] *= 1e30
        weight[69, -1] = 1e-38
    if kind == "special values":
        weight[3, :4] = torch.tensor([0.0, -0.0, 1e-40, torch.inf])
    return weight.bfloat16()


@pytest.fixture
def packed_as(monkeypatch: pytest.MonkeyPatch):
    """packed_as(compact, weight): the weight in either form, on any processor."""

    def pack(compact: bool, weight: torch.Tensor) -> cpu.PackedLinear:
        monkeypatch.setattr(native_linear, "_COMPACT_ISAS", (cpu.isa(),) if compact else ())
        packed = cpu.pack_linear(weight)
        assert packed.data.dtype == (torch.uint8 if compact else torch.bfloat16)
        return packed

    return pack


@pytest.mark.parametrize("k", [90, 1500])  # at 1500 many rows go through a panel in parts
@pytest.mark.parametrize("kind", ["plain", "rare exponents", "special values"])
def test_products_and_rows_are_equal_bit_for_bit(native, packed_as, rng, kind, k):
    weight = weights(kind, k, rng)
    dense, compact = packed_as(False, weight), packed_as(True, weight)
    for rows in (1, 16, 17, 40, 300, 700):
        x = torch.randn(rows, k, generator=rng).bfloat16()
        expected, got = native.linear(x, dense, wide=True), native.linear(x, compact, wide=True)
        assert torch.equal(expected.view(torch.int32), got.view(torch.int32))
    ids = torch.arange(70)
    assert torch.equal(native.embedding(ids, compact).view(torch.int16), weight.view(torch.int16))


def test_takes_a_quarter_less(packed_as, rng):
    weight = (torch.randn(256, 512, generator=rng) * 0.02).bfloat16()
    assert packed_as(True, weight).data.numel() < 0.77 * packed_as(False, weight).data.numel() * 2


def test_weights_that_do_not_pay_stay_dense(monkeypatch, rng):
    monkeypatch.setattr(native_linear, "_COMPACT_ISAS", (cpu.isa(),))
    noise = torch.randint(-(2**15), 2**15, (64, 64), generator=rng).to(torch.int16).view(torch.bfloat16)
    assert cpu.pack_linear(noise).data.dtype == torch.bfloat16
