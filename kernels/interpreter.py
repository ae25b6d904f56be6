"""Runs a program op by op through `ops`: with the reference kernels this is the definition of right.

Values are tensors of their own, fused ops the composition of their parts.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch

from octavo.kernels import ops
from octavo.kernels.checked import OpDiffersError
from octavo.kernels.program import Op, Program, Value
from octavo.kernels.program_ops import (
    Activate,
    Add,
    Attend,
    AttendFresh,
    CacheWrite,
    Call,
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


class Interpreter:
    """A program over a model's caches. See `Runnable`."""

    def __init__(self, program: Program, caches: Caches) -> None:
        self._program = program
        self._caches = caches
        self._last_op = _last_ops(program)
        self._profiling = False
        self._seconds: dict[str, float] = defaultdict(float)

    def run(self, inputs: Mapping[str, torch.Tensor], step: Step) -> dict[str, torch.Tensor]:
        """See `Runnable.run`."""
        values = _Values(self._program, inputs)
        for number, op in enumerate(self._program.ops):
            self._timed(op, values, step)
            values.forget(self._last_op[number])
        return {name: values[value] for name, value in self._program.outputs.items()}

    def profile(self, enable: bool) -> None:
        """See `Runnable.profile`."""
        self._profiling = enable

    def timings(self) -> dict[str, float]:
        """See `Runnable.timings`."""
        seconds, self._seconds = self._seconds, defaultdict(float)
        return dict(seconds)

    def _timed(self, op: Op, values: _Values, step: Step) -> None:
        started = time.perf_counter()
        try:
            _RUN[type(op)](op, values, step, self._caches)
        except OpDiffersError as error:
            raise OpDiffersError(f"{error}, in {op} of program {self._program.name}") from None
        if self._profiling:
            self._seconds[op.label] += time.perf_counter() - started


class _Values:
    """Tensors of the values that are alive."""

    def __init__(self, program: Program, inputs: Mapping[str, torch.Tensor]) -> None:
        self._tensors = {value.index: inputs[name].view(-1, value.width) for name, value in program.inputs.items()}

    def __getitem__(self, value: Value) -> torch.Tensor:
        whole = self._tensors[value.index]
        return whole[:, value.start : value.start + value.width]

    def __setitem__(self, value: Value, tensor: torch.Tensor) -> None:
        self._tensors[value.index] = tensor

    def heads(self, value: Value, head_dim: int) -> torch.Tensor:
        """A value as [rows, heads, D], a view."""
        return self[value].unflatten(1, (-1, head_dim))

    def forget(self, indices: list[int]) -> None:
        for index in indices:
            self._tensors.pop(index, None)


def _last_ops(program: Program) -> list[list[int]]:
    """For each op the values that nobody needs after it."""
    kept = {value.index for value in program.outputs.values()}
    last = {value.index: number for number, op in enumerate(program.ops) for value in (*op.made(), *op.read())}
    ends: list[list[int]] = [[] for _ in program.ops]
    for index, number in last.items():
        if index not in kept:
            ends[number].append(index)
    return ends


def _copy(op: Copy, values: _Values, _step: Step, _caches: Caches) -> None:
    values[op.out] = values[op.x].clone()


def _embed(op: Embed, values: _Values, _step: Step, _caches: Caches) -> None:
    rows = ops.embedding(values[op.ids].flatten(), op.table)
    values[op.out] = rows if op.scale == 1.0 else rows.mul_(op.scale)


def _widen(op: Widen, values: _Values, _step: Step, _caches: Caches) -> None:
    values[op.out] = values[op.x].float()


def _norm(op: Norm, values: _Values, _step: Step, _caches: Caches) -> None:
    values[op.out] = _normed(op, op.norm, op.out.dtype, values, op.parts)


def _normed(op: Norm | NormLinear, norm: NormWeight, dtype: torch.dtype, values: _Values, parts: int = 1) -> torch.Tensor:
    x = values[op.x]
    if op.addend is not None and op.total is not None:
        values[op.total] = x = x + values[op.addend]
    if norm.weight is None:
        return x.to(dtype)
    if norm.centred:
        return ops.layer_norm(x.unflatten(1, (parts, -1)), norm.weight, norm.bias, norm.eps, dtype).flatten(1)
    if parts == 1:
        return ops.rms_norm(x, norm.weight, norm.eps, dtype)
    return ops.rms_norm(x.unflatten(1, (parts, -1)), norm.weight, norm.eps).flatten(1)


def _linear(op: Linear, values: _Values, _step: Step, _caches: Caches) -> None:
    values[op.out] = _product(op, values[op.x])


def _product(op: Linear | NormLinear, x: torch.Tensor) -> torch.Tensor:
    if op.gate is not None:
        return ops.gated_linear(x, op.weight, op.gate)
    return ops.linear(x, op.weight, wide=op.out.dtype == torch.float32)


def _norm_linear(op: NormLinear, values: _Values, _step: Step, _caches: Caches) -> None:
    values[op.normed] = normed = _normed(op, op.norm, op.normed.dtype, values)
    values[op.out] = _product(op, normed)


def _linear_add(op: LinearAdd, values: _Values, _step: Step, _caches: Caches) -> None:
    product = ops.linear(values[op.x], op.weight, wide=True)
    values[op.out] = values[op.total] + (product if op.scale == 1.0 else product * op.scale)


def _rope_and_cache(op: RopeAndCache, values: _Values, step: Step, caches: Caches) -> None:
    q, k = values.heads(op.q, op.head_dim).clone(), values.heads(op.k, op.head_dim).clone()
    keys, cached_values = caches[op.cache.layer]
    positions, slots = values[op.positions].flatten(), step.slot_mapping[op.cache.group]
    ops.rope_and_cache(q, k, values.heads(op.v, op.head_dim), positions, op.cos_sin, slots, keys, cached_values)
    values[op.rotated_q], values[op.rotated_k] = q.flatten(1), k.flatten(1)


def _cache_write(op: CacheWrite, values: _Values, step: Step, caches: Caches) -> None:
    k, v = values.heads(op.k, op.head_dim), values.heads(op.v, op.head_dim)
    keys, cached_values = caches[op.cache.layer]
    nowhere = torch.zeros(len(k), dtype=torch.int64, device=k.device)
    unrotated = torch.tensor([[1.0, 0.0]], device=k.device)
    slots = step.slot_mapping[op.cache.group]
    ops.rope_and_cache(k[:, :1].clone(), k.clone(), v, nowhere, unrotated, slots, keys, cached_values)


def _attend(op: Attend, values: _Values, step: Step, caches: Caches) -> None:
    keys, cached_values = caches[op.cache.layer]
    lengths = step.encoder_lens if op.mask == "encoder" else step.seq_lens
    values[op.out] = ops.paged_attention(
        values.heads(op.q, op.head_dim), keys, cached_values, step.query_starts, lengths, step.block_tables[op.cache.group],
        op.scale, op.window, op.soft_cap, op.mask != "causal",
    ).flatten(1)  # fmt: skip


def _attend_fresh(op: AttendFresh, values: _Values, step: Step, _caches: Caches) -> None:
    q, k, v = (values.heads(value, op.head_dim) for value in (op.q, op.k, op.v))
    values[op.out] = ops.attention(q, k, v, step.query_starts, op.scale, op.window, op.soft_cap, op.mask == "full").flatten(1)


def _activate(op: Activate, values: _Values, _step: Step, _caches: Caches) -> None:
    values[op.out] = ops.activate(values[op.x], op.activation)


def _add(op: Add, values: _Values, _step: Step, _caches: Caches) -> None:
    values[op.out] = values[op.x] + values[op.y]


def _experts(op: Experts, values: _Values, _step: Step, _caches: Caches) -> None:
    x, router = values[op.x], values[op.router]
    values[op.out] = ops.experts(x, router, op.gate_up, op.down, op.activation, op.top_k, op.renormalize)


def _call(op: Call, values: _Values, step: Step, caches: Caches) -> None:
    made = op.function([values[value] for value in op.values], step, caches)
    for out, tensor in zip(op.outs, made, strict=True):
        values[out] = tensor


_RUN: dict[type[Op], Callable[[Any, _Values, Step, Caches], None]] = {
    Activate: _activate,
    Add: _add,
    Attend: _attend,
    AttendFresh: _attend_fresh,
    CacheWrite: _cache_write,
    Call: _call,
    Copy: _copy,
    Embed: _embed,
    Experts: _experts,
    Linear: _linear,
    LinearAdd: _linear_add,
    Norm: _norm,
    NormLinear: _norm_linear,
    RopeAndCache: _rope_and_cache,
    Widen: _widen,
}
