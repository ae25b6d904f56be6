"""Programs as one native call: `octavo.kernels.program` ops over planned buffers -> csrc/program/program.h."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from octavo.kernels.cpu import _native
from octavo.kernels.cpu.linear import ADD, GATES, STORE, WIDE, PackedLinear
from octavo.kernels.cpu.native import type_code
from octavo.kernels.cpu.rows import POINTWISE
from octavo.kernels.plan import Plan, plan
from octavo.kernels.program import Op, Program, Value
from octavo.kernels.program_ops import (
    Activate,
    Add,
    Attend,
    AttendFresh,
    CacheRef,
    CacheWrite,
    Copy,
    Embed,
    Experts,
    Linear,
    LinearAdd,
    Norm,
    NormLinear,
    NormWeight,
    RopeAndCache,
    Widen,
)
from octavo.kernels.step import Caches, Step

_NOWHERE = (-1, 0, 0)
MASKS = {"causal": 0, "full": 1, "encoder": 2}
"""As csrc/program/ops.h numbers them."""


def native_program(program: Program, caches: Caches) -> tuple[NativeProgram | None, str]:
    """See `ops.native_program`."""
    planned = plan(program)
    lacking = next(filter(None, map(_lacking, planned.ops)), "")
    return (None, lacking) if lacking else (NativeProgram(program, planned, caches), "")


def _lacking(op: Op) -> str:
    """What of an op there is no kernel for; "" when there is one."""
    if type(op) not in _ADD:
        return f"no op {type(op).__name__}, {op.line}"
    if isinstance(op, Add) and not op.x.dtype == op.y.dtype == op.out.dtype:
        return f"no sum of two types, {op.line}"
    weights = (*op.gate_up, *op.down) if isinstance(op, Experts) else (getattr(op, "weight", None),)
    strange = next((weight for weight in weights if weight is not None and not isinstance(weight, PackedLinear)), None)
    return "" if strange is None else f"no product with a {type(strange).__name__}, {op.line}"


class NativeProgram:
    """A program over a model's caches. See `Runnable`."""

    def __init__(self, program: Program, planned: Plan, caches: Caches) -> None:
        self._kept = (program, planned, caches)  # whose memory the native object points to
        self._ops = planned.ops
        self._native = _native.Program()
        for buffer in planned.buffers:
            if buffer.name:
                self._native.add_outside_buffer()
            else:
                self._native.add_buffer(buffer.row_bytes)
        builder = _Builder(self._native, planned, caches)
        for op in planned.ops:
            _ADD[type(op)](builder, op)
        self._inputs = [(name, value.dtype) for name, value in program.inputs.items()]
        self._outputs = [(name, value.width, value.dtype) for name, value in program.outputs.items()]

    def run(self, inputs: Mapping[str, torch.Tensor], step: Step) -> dict[str, torch.Tensor]:
        """See `Runnable.run`."""
        given = [inputs[name] for name, _ in self._inputs]
        rows = given[0].shape[0]
        outputs = {name: torch.empty((rows, width), dtype=dtype) for name, width, dtype in self._outputs}
        groups = [
            (slots.data_ptr(), tables.data_ptr(), tables.stride(0), tables.shape[1])
            for slots, tables in zip(step.slot_mapping, step.block_tables, strict=True)
        ]
        failed = self._native.run(
            rows, [tensor.data_ptr() for tensor in (*given, *outputs.values())], step.seq_lens.shape[0],
            step.query_starts.data_ptr(), step.seq_lens.data_ptr(), step.encoder_lens.data_ptr(), groups,
        )  # fmt: skip
        if failed >= 0:
            raise IndexError(_outside(self._ops[failed]))
        return outputs

    def profile(self, enable: bool) -> None:
        """See `Runnable.profile`."""
        self._native.profile(enable)

    def timings(self) -> dict[str, float]:
        """See `Runnable.timings`."""
        return dict(self._native.take_timings())


def _outside(op: Op) -> str:
    match op:
        case Embed():
            what = "token ids must lie in the vocabulary"
        case RopeAndCache():
            what = f"positions must lie in [0, {op.cos_sin.shape[0]}), and slots inside the cache"
        case CacheWrite():
            what = "slots must lie inside the cache"
        case _:
            what = "block_tables must name blocks of the cache, and seq_lens must fit query_starts and block_tables"
    return f"{what} ({type(op).__name__}, {op.line})"


class _Builder:
    """Adds ops to a native program."""

    def __init__(self, native: _native.Program, planned: Plan, caches: Caches) -> None:
        self._native = native
        self._plan = planned
        self._caches = caches

    def _at(self, value: Value | None) -> tuple[int, int, int]:
        if value is None:
            return _NOWHERE
        place = self._plan.place(value)
        return place.buffer, place.first_column * value.dtype.itemsize, place.stride

    def _cache(self, ref: CacheRef) -> tuple[Any, ...]:
        keys, values = self._caches[ref.layer]
        return (
            type_code(keys), keys.data_ptr(), values.data_ptr(), tuple(keys.stride()[:3]), tuple(values.stride()[:3]),
            tuple(keys.shape), ref.group,
        )  # fmt: skip

    def copy(self, op: Copy) -> None:
        item = op.x.dtype.itemsize
        self._native.add_copy(op.label, self._at(op.x), self._at(op.out), op.x.width * item, item)

    def embed(self, op: Embed) -> None:
        table = op.table
        if isinstance(table, PackedLinear):
            where = (table.native, 0, 0, table.n, table.k)
        else:
            where = (None, table.data_ptr(), table.stride(0), *table.shape)
        self._native.add_embed(op.label, self._at(op.ids), self._at(op.out), type_code_of(op.out), *where, op.scale)

    def widen(self, op: Widen) -> None:
        self._native.add_widen(op.label, self._at(op.x), self._at(op.out), type_code_of(op.x), op.x.width)

    def norm(self, op: Norm) -> None:
        wide = op.x.dtype == torch.float32
        residual = op.addend is not None or (wide and op.parts == 1)
        self._native.add_norm(
            op.label, self._at(op.x), self._at(op.addend), self._at(op.out), type_code_of(op.out), residual, wide, _norm(op.norm),
            op.parts, op.x.width // op.parts,
        )  # fmt: skip

    def linear(self, op: Linear) -> None:
        self._native.add_linear(
            op.label, self._at(op.x), self._at(op.out), type_code_of(op.x), op.weight.native, _epilogue(op), 1.0
        )

    def norm_linear(self, op: NormLinear) -> None:
        self._native.add_norm_linear(
            op.label, self._at(op.x), self._at(op.addend), _norm(op.norm), self._at(op.normed), self._at(op.out),
            type_code_of(op.normed), op.weight.native, _epilogue(op),
        )  # fmt: skip

    def linear_add(self, op: LinearAdd) -> None:
        self._native.add_linear(op.label, self._at(op.x), self._at(op.out), type_code_of(op.x), op.weight.native, ADD, op.scale)

    def rope(self, op: RopeAndCache) -> None:
        self._native.add_rope(
            op.label, self._at(op.rotated_q), self._at(op.rotated_k), self._at(op.v), self._at(op.positions), type_code_of(op.q),
            op.cos_sin.data_ptr(), op.cos_sin.shape[0], op.cos_sin.shape[1], op.q.width // op.head_dim, self._cache(op.cache),
        )  # fmt: skip

    def attend(self, op: Attend) -> None:
        self._native.add_attend(
            op.label, self._at(op.q), self._at(op.out), type_code_of(op.q), op.q.width // op.head_dim, op.scale, op.soft_cap,
            op.window, MASKS[op.mask], self._cache(op.cache),
        )  # fmt: skip

    def cache_write(self, op: CacheWrite) -> None:
        self._native.add_cache_write(op.label, self._at(op.k), self._at(op.v), type_code_of(op.k), self._cache(op.cache))

    def attend_fresh(self, op: AttendFresh) -> None:
        heads = (op.q.width // op.head_dim, op.k.width // op.head_dim, op.head_dim)
        self._native.add_attend_fresh(
            op.label, self._at(op.q), self._at(op.k), self._at(op.v), self._at(op.out), type_code_of(op.q), heads, op.scale,
            op.soft_cap, op.window, MASKS[op.mask],
        )  # fmt: skip

    def activate(self, op: Activate) -> None:
        kind = POINTWISE[op.activation]
        self._native.add_activate(op.label, self._at(op.x), self._at(op.out), type_code_of(op.x), kind, op.x.width)

    def add(self, op: Add) -> None:
        self._native.add_add(op.label, self._at(op.x), self._at(op.y), self._at(op.out), type_code_of(op.x), op.x.width)

    def experts(self, op: Experts) -> None:
        self._native.add_experts(
            op.label, self._at(op.x), self._at(op.router), self._at(op.out), type_code_of(op.x), type_code_of(op.router), GATES[op.activation],
            [weight.native for weight in op.gate_up], [weight.native for weight in op.down], op.top_k, op.renormalize,
        )  # fmt: skip


def type_code_of(value: Value) -> int:
    """The library's number for a value's type."""
    return type_code(torch.empty(0, dtype=value.dtype))


def _norm(norm: NormWeight) -> tuple[int, int, float, int, bool]:
    if norm.weight is None:
        return 0, 0, norm.eps, 0, False
    bias = 0 if norm.bias is None else norm.bias.data_ptr()
    return norm.weight.data_ptr(), type_code(norm.weight), norm.eps, bias, norm.centred


def _epilogue(op: Linear | NormLinear) -> int:
    if op.gate is not None:
        return GATES[op.gate]
    wide = op.out.dtype == torch.float32 and op.weight.dtype != torch.float32
    return WIDE if wide else STORE


_ADD: dict[type[Op], Callable[[_Builder, Any], None]] = {
    Activate: _Builder.activate,
    Add: _Builder.add,
    Attend: _Builder.attend,
    AttendFresh: _Builder.attend_fresh,
    CacheWrite: _Builder.cache_write,
    Copy: _Builder.copy,
    Embed: _Builder.embed,
    Experts: _Builder.experts,
    Linear: _Builder.linear,
    LinearAdd: _Builder.linear_add,
    Norm: _Builder.norm,
    NormLinear: _Builder.norm_linear,
    RopeAndCache: _Builder.rope,
    Widen: _Builder.widen,
}
