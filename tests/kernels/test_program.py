"""Programs: recorded, planned, and run natively and op by op."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.kernels import ops
from octavo.kernels.interpreter import Interpreter
from octavo.kernels.plan import Plan, plan
from octavo.kernels.program import Op, Program, ProgramError, Value
from octavo.kernels.program_ops import (
    Attend,
    CacheRef,
    Copy,
    Embed,
    Linear,
    LinearAdd,
    Norm,
    NormLinear,
    NormWeight,
    RopeAndCache,
    Widen,
)

HIDDEN, HEADS, KV_HEADS, HEAD, INNER, VOCAB, BLOCK = 64, 4, 2, 16, 96, 50, 4


@dataclass
class OneStep:
    """A step of one request whose tokens lie in the blocks 1, 2, ... of both groups."""

    query_starts: torch.Tensor
    seq_lens: torch.Tensor
    encoder_lens: torch.Tensor
    block_tables: tuple[torch.Tensor, ...]
    slot_mapping: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, tokens: int) -> OneStep:
        blocks = -(-tokens // BLOCK)
        table = torch.arange(1, blocks + 1, dtype=torch.int32).view(1, -1)
        slots = BLOCK + torch.arange(tokens)
        starts = torch.tensor([0, tokens], dtype=torch.int32)
        return cls(
            starts, torch.tensor([tokens], dtype=torch.int32), torch.zeros(1, dtype=torch.int32), (table, table), (slots, slots)
        )


def weight(rng: torch.Generator, n: int, k: int, dtype: torch.dtype, gated: bool = False) -> object:
    return ops.pack_linear((torch.randn(n, k, generator=rng) / k**0.5).to(dtype), None, gated)


def layer(rng: torch.Generator, dtype: torch.dtype, *, sandwich: bool) -> Program:
    """Embedding, attention with normed heads in the second group, a gated MLP, final norm; every op that there is but Copy."""
    program = Program("layer")
    ids, positions = program.input("ids", 1, torch.int64), program.input("positions", 1, torch.int64)
    norm = NormWeight(torch.rand(HIDDEN, generator=rng).to(dtype), 1e-5)
    head_norm = NormWeight(torch.rand(HEAD, generator=rng).to(dtype), 1e-5)

    def add(kind: type[Op], **fields: object) -> None:
        program.add(kind, kind.__name__.lower(), **fields)

    def value(width: int, kind: torch.dtype = dtype) -> Value:
        return program.value(width, kind)

    rows, total = value(HIDDEN), value(HIDDEN, torch.float32)
    add(Embed, ids=ids, table=torch.randn(VOCAB, HIDDEN, generator=rng).to(dtype), scale=1.5, out=rows)
    add(Widen, x=rows, out=total)
    qkv, sizes = value((HEADS + 2 * KV_HEADS) * HEAD), (HEADS * HEAD, KV_HEADS * HEAD)
    add(
        NormLinear, x=total, addend=None, norm=norm, weight=weight(rng, qkv.width, HIDDEN, dtype), gate=None, total=None,
        normed=value(HIDDEN), out=qkv,
    )  # fmt: skip
    q, k, v = qkv.columns(0, sizes[0]), qkv.columns(sizes[0], sum(sizes)), qkv.columns(sum(sizes), qkv.width)
    normed_q, rotated_q, attended = value(sizes[0]), value(sizes[0]), value(sizes[0])
    add(Norm, x=q, addend=None, norm=head_norm, parts=HEADS, total=None, out=normed_q)
    cache = CacheRef(0, 1)
    angles = torch.rand(64, HEAD // 2, generator=rng)
    cos_sin = torch.cat([angles.cos(), angles.sin()], dim=1)
    add(
        RopeAndCache, q=normed_q, k=k, v=v, positions=positions, cos_sin=cos_sin, cache=cache, head_dim=HEAD,
        rotated_q=rotated_q, rotated_k=value(sizes[1]),
    )  # fmt: skip
    add(Attend, q=rotated_q, cache=cache, head_dim=HEAD, scale=0.25, window=0, soft_cap=0.0, out=attended)
    addend, after = None, None
    if sandwich:
        product, addend = value(HIDDEN), value(HIDDEN)
        add(Linear, x=attended, weight=weight(rng, HIDDEN, sizes[0], dtype), gate=None, out=product)
        add(Norm, x=product, addend=None, norm=norm, parts=1, total=None, out=addend)
        after = value(HIDDEN, torch.float32)
        before = total
    else:
        before = value(HIDDEN, torch.float32)
        add(LinearAdd, x=attended, weight=weight(rng, HIDDEN, sizes[0], dtype), scale=0.5, total=total, out=before)
    inner = value(INNER)
    add(
        NormLinear, x=before, addend=addend, norm=norm, weight=weight(rng, 2 * INNER, HIDDEN, dtype, gated=True), gate="silu",
        total=after, normed=value(HIDDEN), out=inner,
    )  # fmt: skip
    last, hidden = value(HIDDEN, torch.float32), value(HIDDEN)
    add(
        LinearAdd,
        x=inner,
        weight=weight(rng, HIDDEN, INNER, dtype),
        scale=1.0,
        total=before if after is None else after,
        out=last,
    )
    add(Norm, x=last, addend=None, norm=norm, parts=1, total=None, out=hidden)
    program.outputs["hidden"] = hidden
    return program


def caches(dtype: torch.dtype) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.zeros(8, KV_HEADS, BLOCK, HEAD, dtype=dtype), torch.zeros(8, KV_HEADS, BLOCK, HEAD, dtype=dtype))]


def inputs(tokens: int) -> dict[str, torch.Tensor]:
    return {"ids": torch.arange(tokens) * 7 % VOCAB, "positions": torch.arange(tokens)}


@pytest.mark.parametrize("sandwich", [False, True])
@pytest.mark.parametrize("tokens", [1, 17])
def test_one_call_is_op_by_op(
    native: ModuleType, rng: torch.Generator, dtype: torch.dtype, sandwich: bool, tokens: int
) -> None:
    """The native ops one by one through the door differ from the whole by one rounding of what a block adds, where it is 16 bits."""
    ops.use("cpu")
    program = layer(rng, dtype, sandwich=sandwich)
    whole, lacking = native.native_program(program, caches(dtype))
    assert (whole is not None, lacking) == (True, "")
    actual = whole.run(inputs(tokens), OneStep.of(tokens))["hidden"]
    expected = Interpreter(program, caches(dtype)).run(inputs(tokens), OneStep.of(tokens))["hidden"]
    assert (actual.dtype, actual.shape) == (dtype, (tokens, HIDDEN))
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}[dtype]
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)
    again = whole.run(inputs(tokens), OneStep.of(tokens))["hidden"]
    assert torch.equal(actual, again)


def test_the_reference_runs_every_op(rng: torch.Generator) -> None:
    ops.use("reference")
    try:
        program = layer(rng, torch.float32, sandwich=True)
        assert ops.native_program(program, caches(torch.float32)) == (None, "")
        hidden = Interpreter(program, caches(torch.float32)).run(inputs(5), OneStep.of(5))["hidden"]
        assert hidden.isfinite().all()
    finally:
        ops.use()


def test_what_lies_outside_is_named(native: ModuleType, rng: torch.Generator) -> None:
    ops.use("cpu")
    whole, _ = native.native_program(layer(rng, torch.float32, sandwich=False), caches(torch.float32))
    for name, bad, message in (("ids", VOCAB, "token ids"), ("positions", 64, "positions must lie in")):
        given = inputs(3)
        given[name] = torch.tensor([0, bad, 1])
        with pytest.raises(IndexError, match=rf"{message}.*test_program\.py:\d+"):
            whole.run(given, OneStep.of(3))


def test_times_are_added_up_by_label(native: ModuleType, rng: torch.Generator) -> None:
    ops.use("cpu")
    program = layer(rng, torch.float32, sandwich=False)
    for runnable in (native.native_program(program, caches(torch.float32))[0], Interpreter(program, caches(torch.float32))):
        runnable.run(inputs(3), OneStep.of(3))
        assert not any(runnable.timings().values())
        runnable.profile(True)
        runnable.run(inputs(3), OneStep.of(3))
        times = runnable.timings()
        assert set(times) == {op.label for op in program.ops}
        assert all(seconds > 0 for seconds in times.values())


def test_a_listing_names_values_and_lines(rng: torch.Generator) -> None:
    ops.use("reference")
    text = str(layer(rng, torch.bfloat16, sandwich=False))
    ops.use()
    assert text.startswith("program layer(ids %0: int64[tokens, 1], positions %1: int64[tokens, 1]):")
    assert "%2: bfloat16[tokens, 64] = Embed(ids=%0, table=bfloat16[50, 64], scale=1.5)" in text
    assert "k=%4[64:96], v=%4[96:128]" in text
    assert "test_program.py:" in text


def test_a_program_goes_with_its_last_user(rng: torch.Generator) -> None:
    """Without the garbage collector: a model's weights are large."""
    ops.use("reference")
    runnable = Interpreter(layer(rng, torch.float32, sandwich=True), caches(torch.float32))
    ops.use()
    seen = weakref.ref(runnable._program)
    gc.disable()
    try:
        del runnable
        assert seen() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("use", [bool, int, float, len, list, lambda x: x[0]])
def test_a_symbol_is_no_number(use: object) -> None:
    program = Program("p")
    value = program.value(4, torch.float32)
    with pytest.raises(ProgramError, match=r"^test_program\.py:\d+: "):
        use(value)  # type: ignore[operator]
    with pytest.raises(ProgramError, match="columns 2 to 5"):
        value.columns(2, 5)


def test_what_is_still_read_is_not_changed() -> None:
    """The sum is needed after something was added to it, and again as an output."""
    program = Program("p")
    x = program.input("x", 4, torch.float32)
    total, more, out = (program.value(4, torch.float32) for _ in range(3))
    packed = ops_pack(torch.eye(4))
    for made, before in ((total, x), (more, total), (out, total)):
        program.add(LinearAdd, "add", x=x, weight=packed, scale=1.0, total=before, out=made)
    program.outputs |= {"more": more, "out": out}
    planned = plan(program)
    assert sum(isinstance(op, Copy) for op in planned.ops) == 4, "of the input, of total once, and into either output"
    check_memory(planned)


def ops_pack(matrix: torch.Tensor) -> object:
    ops.use("reference")
    packed = ops.pack_linear(matrix)
    ops.use()
    return packed


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "norm", "linear"]), st.integers(0, 100), st.integers(0, 100)), max_size=25))
def test_no_value_is_overwritten_while_it_is_needed(choices: list[tuple[str, int, int]]) -> None:
    program = Program("p")
    values = [program.input("x", 8, torch.float32)]
    for kind, first, second in choices:
        x, total, out = values[first % len(values)], values[second % len(values)], program.value(8, torch.float32)
        if kind == "add":
            program.add(LinearAdd, kind, x=x, weight=None, scale=1.0, total=total, out=out)
        elif kind == "norm":
            program.add(Norm, kind, x=x, addend=None, norm=NormWeight(None, 0.0), parts=1, total=None, out=out)
        else:
            program.add(Linear, kind, x=x, weight=None, gate=None, out=out)
        values.append(out)
    program.outputs["last"] = values[-1]
    if len(values) > 1:
        planned = plan(program)
        check_memory(planned)
        assert planned.peak_bytes({"tokens": 3}) <= 3 * 32 * len(values)


def check_memory(planned: Plan) -> None:
    """Go through the ops with the number of the value that lies in each column of each buffer."""
    holds: dict[tuple[int, int], int] = {}

    def columns(value: Value) -> list[tuple[int, int]]:
        place = planned.place(value)
        return [(place.buffer, place.first_column + i) for i in range(value.width)]

    for op in planned.ops:
        changed = {old.index: made for made, old in op.in_place()}
        for value in op.read():
            assert all(holds.get(at, value.index) == value.index for at in columns(value)), f"{value} is gone before {op}"
        for old_index, made in changed.items():
            assert all(holds.get(at, old_index) == old_index for at in columns(made))
        for made in op.made():
            for at in columns(made):
                holds[at] = made.index
