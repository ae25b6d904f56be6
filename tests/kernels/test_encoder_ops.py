"""Programs of encoders and of decoders that attend to one: natively against op by op."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from octavo.kernels import ops
from octavo.kernels.interpreter import Interpreter
from octavo.kernels.program import Program, Value
from octavo.kernels.program_ops import Activate, Add, Attend, AttendFresh, CacheRef, CacheWrite, Norm, NormWeight

HEADS, KV_HEADS, HEAD, BLOCK = 4, 2, 32, 32
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}


@dataclass
class Batch:
    """Requests of some lengths whose encoders gave some keys, in blocks one behind the other."""

    query_starts: torch.Tensor
    seq_lens: torch.Tensor
    encoder_lens: torch.Tensor
    block_tables: tuple[torch.Tensor, ...] = ()
    slot_mapping: tuple[torch.Tensor, ...] = ()

    @classmethod
    def of(cls, lengths: list[int], encoder: list[int] | None = None) -> Batch:
        starts = torch.tensor([0, *lengths]).cumsum(0).int()
        sizes = torch.tensor(lengths, dtype=torch.int32)
        if encoder is None:
            return cls(starts, sizes, torch.zeros_like(sizes))
        tables = torch.arange(4 * len(lengths), dtype=torch.int32).view(-1, 4)
        slots = torch.full((sum(lengths),), -1)
        return cls(starts, sizes, torch.tensor(encoder, dtype=torch.int32), (tables,), (slots,))


def new(program: Program, width: int, dtype: torch.dtype) -> Value:
    return program.value(width, dtype)


@pytest.mark.parametrize("mask", ["full", "causal"])
@pytest.mark.parametrize("centred", [False, True])
def test_an_encoders_layer(native, rng, dtype, mask, centred) -> None:
    """Sum, norm of a sum in the model's type, attention without a cache, activation."""
    ops.use("cpu")
    width = HEADS * HEAD
    program = Program("encoder")
    x, y = program.input("x", width + 2 * KV_HEADS * HEAD, dtype), program.input("y", width, dtype)
    attended, total, normed, out, last = (new(program, width, dtype) for _ in range(5))
    q, k, v = x.columns(0, width), x.columns(width, width + KV_HEADS * HEAD), x.columns(width + KV_HEADS * HEAD, x.width)
    program.add(
        AttendFresh,
        "attention",
        q=q,
        k=k,
        v=v,
        head_dim=HEAD,
        scale=HEAD**-0.5,
        window=0,
        soft_cap=0.0,
        mask=mask,
        out=attended,
    )
    weight, bias = (torch.randn(width, generator=rng).to(dtype) for _ in range(2))
    norm = NormWeight(weight, 1e-5, bias if centred else None, centred)
    program.add(Norm, "norm", x=y, addend=attended, norm=norm, parts=1, total=total, out=normed)
    program.add(Activate, "activation", x=normed, activation="gelu", out=out)
    program.add(Add, "add", x=out, y=total, out=last)
    program.outputs["last"] = last
    lengths = [5, 70, 1, 33]
    given = {"x": torch.randn(109, x.width, generator=rng).to(dtype), "y": torch.randn(109, width, generator=rng).to(dtype)}
    whole, lacking = native.native_program(program, [])
    assert lacking == ""
    actual = whole.run({name: value.clone() for name, value in given.items()}, Batch.of(lengths))["last"]
    expected = Interpreter(program, []).run(given, Batch.of(lengths))["last"]
    torch.testing.assert_close(actual, expected, rtol=TOLERANCE[dtype], atol=4 * TOLERANCE[dtype])
    alone = whole.run({name: value[5:75].clone() for name, value in given.items()}, Batch.of([70]))["last"]
    assert torch.equal(alone, actual[5:75])


def test_rows_behind_the_last_request_change_nothing(native, rng) -> None:
    ops.use("cpu")
    program = Program("padded")
    q, k, v = (program.input(name, HEAD, torch.float32) for name in "qkv")
    out = new(program, HEAD, torch.float32)
    program.add(AttendFresh, "attention", q=q, k=k, v=v, head_dim=HEAD, scale=0.2, window=0, soft_cap=0.0, mask="full", out=out)
    program.outputs["out"] = out
    whole, _ = native.native_program(program, [])
    given = {name: torch.randn(6, HEAD, generator=rng) for name in "qkv"}
    padded = whole.run(given, Batch.of([4]))["out"][:4]
    assert torch.equal(padded, whole.run({name: value[:4] for name, value in given.items()}, Batch.of([4]))["out"])


def test_keys_of_an_encoder_are_written_once_and_read_by_all(native, rng, dtype) -> None:
    ops.use("cpu")
    cache = [(torch.full((12, KV_HEADS, BLOCK, HEAD), torch.nan, dtype=dtype) for _ in range(2))]
    caches, plain = ([tuple(part.clone() for part in both)] for both in [tuple(cache[0])] * 2)
    write, read = Program("cross"), Program("body")
    k, v = (write.input(name, KV_HEADS * HEAD, dtype) for name in "kv")
    write.add(CacheWrite, "cache", k=k, v=v, cache=CacheRef(0, 0), head_dim=HEAD)
    q = read.input("q", HEADS * HEAD, dtype)
    out = new(read, HEADS * HEAD, dtype)
    read.add(
        Attend,
        "attention",
        q=q,
        cache=CacheRef(0, 0),
        head_dim=HEAD,
        scale=0.2,
        window=0,
        soft_cap=0.0,
        mask="encoder",
        out=out,
    )
    read.outputs["out"] = out
    encoder = [40, 0, 7]
    given = {name: torch.randn(47, KV_HEADS * HEAD, generator=rng).to(dtype) for name in "kv"}
    step = Batch.of([40, 7], [40, 7])
    step.slot_mapping = (torch.cat([torch.arange(40), 256 + torch.arange(7)]),)
    queries = {"q": torch.randn(1 + 3 + 60, HEADS * HEAD, generator=rng).to(dtype)}
    native.native_program(write, caches)[0].run(given, step)
    Interpreter(write, plain).run(given, step)
    actual = native.native_program(read, caches)[0].run(queries, Batch.of([1, 3, 60], encoder))["out"]
    expected = Interpreter(read, plain).run(queries, Batch.of([1, 3, 60], encoder))["out"]
    assert (actual[1:4] == 0).all()
    torch.testing.assert_close(actual, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_a_sum_of_two_types_is_not_run_natively(native) -> None:
    program = Program("sum")
    x, y = program.input("x", 8, torch.float32), program.input("y", 8, torch.bfloat16)
    out = new(program, 8, torch.float32)
    program.add(Add, "add", x=x, y=y, out=out)
    program.outputs["out"] = out
    assert native.native_program(program, [])[1].startswith("no sum of two types")
