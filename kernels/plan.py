"""Memory for a program's values: who may take whose place, known before anything runs.

A value lives from the op that makes it to the last one that reads it. Ops that can work in place do so where the old value is not read
any more; where it is, it is copied first. The others' values share a few buffers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from octavo.kernels.program import Op, Program, Value
from octavo.kernels.program_ops import Copy


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of `row_bytes` for each row of a dimension; `name` = what a run brings or gets, "" = the program's own."""

    rows: str
    row_bytes: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value lies: a buffer, and the whole value's width, which is the stride between rows in elements."""

    buffer: int
    first_column: int
    stride: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Ops with the copies that are needed, buffers, and each whole value's place by its number."""

    ops: list[Op]
    buffers: list[Buffer]
    places: dict[int, Place]

    def place(self, value: Value) -> Place:
        """Where a value, or a view of one, lies."""
        whole = self.places[value.index]
        return Place(whole.buffer, whole.first_column + value.start, whole.stride)

    def peak_bytes(self, sizes: dict[str, int]) -> int:
        """Bytes of the program's own buffers for a step with so many rows of each dimension."""
        return sum(buffer.row_bytes * sizes[buffer.rows] for buffer in self.buffers if not buffer.name)


def plan(program: Program) -> Plan:
    """Find memory for a program's values."""
    return _Planner(program, with_copies(program)).plan()


def with_copies(program: Program) -> list[Op]:
    """The ops, with a copy before each change in place of a value that is still needed, and behind one that makes an output."""
    last_read = _last_reads(program.ops)
    outputs = {value.index for value in program.outputs.values()}
    kept = outputs | {value.index for value in program.inputs.values()}
    ops: list[Op] = []
    for number, op in enumerate(program.ops):
        needed = [old for _, old in op.in_place() if old.index in kept or last_read[old.index] > number]
        for old in {id(old): old for old in needed}.values():
            fresh = program.value(old.width, old.dtype, old.rows)
            ops.append(Copy(label=op.label, line=op.line, x=old, out=fresh))
            op = _with(op, old, fresh)  # noqa: PLW2901
        leaving = [made for made, _ in op.in_place() if made.index in outputs]
        copies = []
        for made in leaving:
            fresh = program.value(made.width, made.dtype, made.rows)
            copies.append(Copy(label=op.label, line=op.line, x=fresh, out=made))
            op = _with(op, made, fresh)  # noqa: PLW2901
        ops += [op, *copies]
    return ops


def _with(op: Op, old: Value, fresh: Value) -> Op:
    """The op with `fresh` in place of `old`."""
    fields = {one.name: getattr(op, one.name) for one in dataclasses.fields(op)}
    changed: dict[str, Any] = {name: fresh if value is old else value for name, value in fields.items()}
    return type(op)(**changed)


def _last_reads(ops: Sequence[Op]) -> dict[int, int]:
    """Number of the last op that reads each value; a value that nobody reads is done with when it is made."""
    last: dict[int, int] = {}
    for number, op in enumerate(ops):
        for value in (*op.made(), *op.read()):
            last[value.index] = number
    return last


class _Planner:
    """Goes through the ops once, keeping the buffers that are free."""

    def __init__(self, program: Program, ops: list[Op]) -> None:
        self._program = program
        self._ops = ops
        self._buffers: list[Buffer] = []
        self._places: dict[int, Place] = {}
        self._last_read = _last_reads(ops)
        self._free: list[int] = []
        self._holders: dict[int, int] = {}
        """Buffer -> the value that lies in it now."""

    def plan(self) -> Plan:
        for name, value in (*self._program.inputs.items(), *self._program.outputs.items()):
            self._places[value.index] = Place(self._new_buffer(value, name), 0, value.whole)
        for number, op in enumerate(self._ops):
            self._place(op)
            self._release(number)
        return Plan(self._ops, self._buffers, self._places)

    def _place(self, op: Op) -> None:
        for made, old in op.in_place():
            if made.index not in self._places:
                place = self._places[old.index]
                self._places[made.index] = Place(place.buffer, place.first_column + old.start, place.stride)
                self._hold(place.buffer, made)
        for made in op.made():
            if made.index not in self._places:
                buffer = self._take(made)
                self._places[made.index] = Place(buffer, 0, made.whole)
                self._hold(buffer, made)

    def _hold(self, buffer: int, value: Value) -> None:
        """The value lies in the buffer; of several parts of one buffer, the one that is needed longest counts."""
        before = self._holders.get(buffer)
        if before is None or self._last_read[before] <= self._last_read[value.index]:
            self._holders[buffer] = value.index

    def _take(self, value: Value) -> int:
        """The smallest free buffer that is large enough, else a new one."""
        wanted = value.whole * value.dtype.itemsize
        fitting = [b for b in self._free if self._buffers[b].rows == value.rows and self._buffers[b].row_bytes >= wanted]
        if not fitting:
            return self._new_buffer(value)
        best = min(fitting, key=lambda b: self._buffers[b].row_bytes)
        self._free.remove(best)
        return best

    def _new_buffer(self, value: Value, name: str = "") -> int:
        self._buffers.append(Buffer(value.rows, value.whole * value.dtype.itemsize, name))
        return len(self._buffers) - 1

    def _release(self, number: int) -> None:
        for buffer, value in list(self._holders.items()):
            if self._last_read[value] <= number and not self._buffers[buffer].name:
                del self._holders[buffer]
                self._free.append(buffer)
