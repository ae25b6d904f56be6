"""Norms, gated activations and embedding against the reference."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tolerances import SINGLE, assert_sums, assert_within

from octavo.kernels import reference


def strided(x: torch.Tensor) -> torch.Tensor:
    """x as a view into something wider."""
    wide = torch.full((*x.shape[:-1], x.shape[-1] + 5), 99.0, dtype=x.dtype)
    wide[..., : x.shape[-1]] = x
    return wide[..., : x.shape[-1]]


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Two norms of the same row: the mean of its squares is a sum of terms of one sign."""
    assert_sums(actual, expected, expected.shape[-1], expected.abs())


@pytest.mark.parametrize("shape", [(1, 1), (1, 64), (3, 65), (7, 576), (130, 200)])
def test_rms_norm(native, rng, dtype, shape):
    x, weight = torch.randn(shape, generator=rng).to(dtype), torch.randn(shape[-1], generator=rng)
    for w in (weight, weight.to(dtype)):
        close(native.rms_norm(x, w, 1e-5), reference.rms_norm(x, w, 1e-5))
        close(native.rms_norm(strided(x), w, 1e-5), reference.rms_norm(x, w, 1e-5))


def test_rms_norm_of_each_head(native, rng, dtype):
    qkv, weight = torch.randn(5, 9 * 32, generator=rng).to(dtype), torch.randn(32, generator=rng)
    heads = qkv[:, 64:192].view(5, 4, 32)
    close(native.rms_norm(heads, weight, 1e-6), reference.rms_norm(heads, weight, 1e-6))


def test_rms_norm_is_torchs(kernels, rng, dtype):
    x, weight = torch.randn(4, 48, generator=rng).to(dtype), torch.randn(48, generator=rng).to(dtype)
    close(kernels.rms_norm(x, weight, 1e-5), F.rms_norm(x.float(), (48,), weight.float(), 1e-5).to(dtype))


@pytest.mark.parametrize("shape", [(1, 64), (5, 577), (64, 576)])
def test_add_rms_norm(native, rng, dtype, shape):
    x, residual = (torch.randn(shape, generator=rng).to(dtype) for _ in range(2))
    weight = torch.randn(shape[-1], generator=rng)
    expected_residual, actual_residual = residual.clone(), strided(residual)
    expected = reference.add_rms_norm(x, expected_residual, weight, 1e-5)
    actual = native.add_rms_norm(strided(x), actual_residual, weight, 1e-5)
    assert torch.equal(actual_residual, expected_residual)
    close(actual, expected)


@pytest.mark.parametrize("shape", [(1, 64), (5, 577)])
def test_norms_of_a_float32_residual(native, rng, dtype, shape):
    x, residual, weight = torch.randn(shape, generator=rng).to(dtype), torch.randn(shape, generator=rng), torch.randn(shape[-1])
    expected_residual, actual_residual = residual.clone(), strided(residual)
    expected = reference.add_rms_norm(x, expected_residual, weight.to(dtype), 1e-5)
    close(native.add_rms_norm(strided(x), actual_residual, weight.to(dtype), 1e-5), expected)
    assert torch.equal(actual_residual, expected_residual)
    assert torch.equal(expected_residual, residual + x.float())
    assert expected.dtype == dtype
    close(native.rms_norm(strided(residual), weight, 1e-5, dtype), reference.rms_norm(residual, weight, 1e-5, dtype))


@pytest.mark.parametrize("shape", [(1, 1), (1, 64), (3, 65), (7, 384), (130, 200), (5, 3, 17)])
@pytest.mark.parametrize("biased", [False, True])
def test_layer_norm(native, rng, dtype, shape, biased):
    x = (torch.randn(shape, generator=rng) + 2.0).to(dtype)
    for kind in (dtype, torch.float32):
        weight, bias = (torch.randn(shape[-1], generator=rng).to(kind) for _ in range(2))
        given = bias if biased else None
        expected = reference.layer_norm(x, weight, given, 1e-5)
        wide = x.float()
        deviation = (wide.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        magnitude = 4 * (wide.abs() + wide.abs().mean(-1, keepdim=True)) / deviation * weight.float().abs() + bias.float().abs()
        assert_sums(native.layer_norm(strided(x), weight, given, 1e-5), expected, shape[-1], magnitude)


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu", "silu", "tanh"])
@pytest.mark.parametrize("shape", [(1, 2), (3, 130), (40, 1536)])
def test_activations(native, rng, dtype, activation, shape):
    x = (torch.randn(shape, generator=rng) * 4).to(dtype)
    x[0, 0] = -30.0
    if shape[0] > 1:
        x[1, :3], x[2, :3] = torch.nan, torch.tensor([1e-4, -1e-3, 0.05]).to(dtype)
    expected = reference.activate(x, activation)
    # The error of the function of the normal distribution, and of an exponential.
    error = 1e-6 * x.double().abs().nan_to_num(0.0) + (4 * SINGLE if activation == "tanh" else 0.0)
    if activation == "tanh":
        error = torch.where(x.abs() < 0.6, 1e-6 * x.double().abs(), error)
    assert_within(native.activate(strided(x), activation), expected, error)


@pytest.mark.parametrize("op", ["silu_and_mul", "gelu_and_mul"])
@pytest.mark.parametrize("shape", [(1, 2), (3, 130), (40, 3072)])
def test_gates(native, rng, dtype, op, shape):
    x = (torch.randn(shape, generator=rng) * 4).to(dtype)
    gate, up = x.double().chunk(2, dim=-1)
    for given in (x, strided(x)):
        # Near its end an activation is a difference of equals, of the gate's own size.
        assert_sums(getattr(native, op)(given), getattr(reference, op)(x), 2, (gate * up).abs())


def test_gates_at_the_extremes(kernels):
    x = torch.tensor([[1e30, -1e30, 100.0, -100.0, 0.0] + [1.0] * 5])
    for op in (kernels.silu_and_mul, kernels.gelu_and_mul):
        gated = op(x)[:, :5]
        assert_sums(gated, torch.tensor([[1e30, 0.0, 100.0, 0.0, 0.0]]), 2, gated.abs())


@pytest.mark.parametrize("ids_type", [torch.int32, torch.int64])
def test_embedding(kernels, rng, dtype, ids_type):
    weight = torch.randn(50, 33, generator=rng).to(dtype)
    ids = torch.tensor([0, 49, 7, 7], dtype=ids_type)
    assert torch.equal(kernels.embedding(ids, weight), weight[ids.long()])


def test_embedding_refuses_ids_outside_the_table(kernels):
    for bad in (-1, 50):
        with pytest.raises(IndexError):
            kernels.embedding(torch.tensor([3, bad]), torch.zeros(50, 8))


def test_other_types_are_refused(native):
    with pytest.raises(TypeError, match="float64"):
        native.silu_and_mul(torch.zeros(2, 4, dtype=torch.float64))


def test_columns_are_refused(native):
    with pytest.raises(ValueError, match="contiguous"):
        native.rms_norm(torch.zeros(4, 8).t(), torch.ones(4), 1e-5)
