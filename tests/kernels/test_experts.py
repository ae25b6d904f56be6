"""Mixtures of experts: native against the reference, and rows that do not depend on each other."""

from __future__ import annotations

import pytest
import torch
from tolerances import SINGLE, UNIT, assert_within

from octavo.kernels import ops, reference
from octavo.kernels.interpreter import Interpreter
from octavo.kernels.program import Program
from octavo.kernels.program_ops import Experts

HIDDEN, INNER, EXPERTS = 48, 80, 5


class Mixture:
    """Random experts, as each set of kernels packs them."""

    def __init__(self, rng: torch.Generator, dtype: torch.dtype) -> None:
        self.up = [(torch.randn(2 * INNER, HIDDEN, generator=rng) / 7).to(dtype) for _ in range(EXPERTS)]
        self.down = [(torch.randn(HIDDEN, INNER, generator=rng) / 9).to(dtype) for _ in range(EXPERTS)]

    def error(self, x: torch.Tensor, router: torch.Tensor, activation: str, top_k: int, renormalize: bool) -> torch.Tensor:
        """Most that two right answers differ: products and what goes between them are rounded to the type, a few times."""
        gate, up = (torch.einsum("ij,ekj->eik", x.double().abs(), w.double().abs()) for w in self._halves())
        inner = (gate * up).float()
        of_each = torch.einsum("eik,ehk->eih", inner, torch.stack(self.down).float().abs())
        probabilities = torch.softmax(router.float(), -1)
        best = probabilities.topk(top_k).indices
        shares = torch.zeros_like(probabilities).scatter(1, best, probabilities.gather(1, best))
        if renormalize:
            shares /= shares.sum(-1, keepdim=True)
        return 4 * (UNIT[x.dtype] + HIDDEN * INNER**0.5 * SINGLE) * torch.einsum("ie,eih->ih", shares, of_each).double()

    def _halves(self) -> list[torch.Tensor]:
        both = torch.stack(self.up)
        return [both[:, :INNER], both[:, INNER:]]

    def packed(self, kernels) -> tuple[tuple[object, ...], tuple[object, ...]]:
        return tuple(kernels.pack_linear(w, None, True) for w in self.up), tuple(kernels.pack_linear(w) for w in self.down)


def inputs(rng: torch.Generator, rows: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, HIDDEN, generator=rng).to(dtype), torch.randn(rows, EXPERTS, generator=rng).to(dtype) * 2


@pytest.mark.parametrize("activation", ["silu", "gelu"])
@pytest.mark.parametrize(("top_k", "renormalize"), [(1, True), (2, True), (2, False), (5, False)])
@pytest.mark.parametrize("rows", [1, 33])
def test_native_is_the_reference(native, rng, dtype, rows, top_k, renormalize, activation):
    mixture = Mixture(rng, dtype)
    x, router = inputs(rng, rows, dtype)
    expected = reference.experts(x, router, *mixture.packed(reference), activation, top_k, renormalize)
    packed = mixture.packed(native)
    error = mixture.error(x, router, activation, top_k, renormalize)
    assert_within(native.experts(x, router, *packed, activation, top_k, renormalize), expected, error)
    program = program_of(packed, dtype, dtype, top_k, renormalize, activation)
    whole, lacking = native.native_program(program, [])
    assert lacking == ""
    step = NoCache(rows)
    actual = whole.run({"x": x, "router": router}, step)["out"]
    assert_within(actual, expected, error)
    for row in range(0, rows, 8):
        alone = whole.run({"x": x[row : row + 1], "router": router[row : row + 1].contiguous()}, NoCache(1))["out"]
        assert torch.equal(alone[0], actual[row])
    ops.use("cpu")
    assert_within(Interpreter(program, []).run({"x": x, "router": router}, step)["out"], expected, error)


def test_a_router_may_have_another_type(native, rng):
    mixture = Mixture(rng, torch.bfloat16)
    x, router = inputs(rng, 9, torch.bfloat16)
    router = torch.randn(9, EXPERTS, generator=rng)
    expected = reference.experts(x, router, *mixture.packed(reference), "silu", 2, True)
    whole, _ = native.native_program(program_of(mixture.packed(native), torch.bfloat16, torch.float32, 2, True, "silu"), [])
    error = mixture.error(x, router, "silu", 2, True)
    assert_within(whole.run({"x": x, "router": router}, NoCache(9))["out"], expected, error)


def test_what_is_no_number_stays_none(native, rng):
    mixture = Mixture(rng, torch.float32)
    x, router = inputs(rng, 3, torch.float32)
    router[1, 3] = torch.nan
    whole, _ = native.native_program(program_of(mixture.packed(native), torch.float32, torch.float32, 2, True, "silu"), [])
    out = whole.run({"x": x, "router": router}, NoCache(3))["out"]
    assert out[1].isnan().all()
    assert out[[0, 2]].isfinite().all()


def program_of(packed, dtype, router_dtype, top_k, renormalize, activation) -> Program:
    program = Program("experts")
    given = program.input("x", HIDDEN, dtype), program.input("router", EXPERTS, router_dtype)
    out = program.value(HIDDEN, dtype)
    program.add(
        Experts, "experts", x=given[0], router=given[1], gate_up=packed[0], down=packed[1], activation=activation, top_k=top_k,
        renormalize=renormalize, out=out,
    )  # fmt: skip
    program.outputs["out"] = out
    return program


def test_equal_scores_go_to_the_first_experts(kernels, rng):
    mixture = Mixture(rng, torch.float32)
    x, router = inputs(rng, 4, torch.float32)
    router[:] = 1.0
    first = kernels.experts(x, router, *mixture.packed(kernels), "silu", 2, True)
    mixture.up[2:], mixture.down[2:] = mixture.up[:1] * 3, mixture.down[:1] * 3
    assert torch.equal(kernels.experts(x, router, *mixture.packed(kernels), "silu", 2, True), first)


class NoCache:
    """A step of one request, without caches."""

    def __init__(self, tokens: int) -> None:
        self.query_starts = torch.tensor([0, tokens], dtype=torch.int32)
        self.seq_lens = torch.tensor([tokens], dtype=torch.int32)
        self.encoder_lens = torch.zeros(1, dtype=torch.int32)
        self.block_tables: tuple[torch.Tensor, ...] = ()
        self.slot_mapping: tuple[torch.Tensor, ...] = ()
