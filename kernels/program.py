"""A model as data: ops over numbered values and weights, recorded once by running the model's own forward code on symbols.

A value is a matrix [dimension, width]; the dimension is a name ("tokens") whose size comes with each step. Values do not change:
every op makes new ones, and `octavo.kernels.plan` finds memory for them. The ops stand in
`octavo.kernels.program_ops`. Kernel sets run a program in one call, `octavo.kernels.interpreter` op by op.
"""

from __future__ import annotations

import dataclasses
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

import torch

TOKENS = "tokens"
"""The dimension of a step's flat tokens."""

_PLUMBING = ("/kernels/program.py", "/kernels/program_ops.py", "/executor/layers/", "/executor/models/causal_lm.py")
"""Files that record for whoever calls them: errors and listings name the caller's line."""


class ProgramError(TypeError):
    """Forward code does with a symbol what only a number allows."""


class Value:
    """What an op makes or an input brings: [rows, width] of a type, or some columns of it.

    Attributes:
        index: number of the whole value.
        rows: name of the first dimension.
        start, width: the columns of the whole value that this is.
        whole: how many it has.
    """

    __slots__ = ("_program", "dtype", "index", "rows", "start", "whole", "width")

    def __init__(self, program: Program, index: int, rows: str, width: int, dtype: torch.dtype) -> None:
        # Weak: the program's ops hold its values, and without a circle a model's memory goes with its last user.
        self._program = weakref.ref(program)
        self.index, self.rows, self.dtype = index, rows, dtype
        self.start, self.width, self.whole = 0, width, width

    @property
    def program(self) -> Program:
        """Who records.

        Raises:
            ProgramError: the recording is over, and its program gone.
        """
        program = self._program()
        if program is None:
            raise ProgramError(f"{page_line()}: {self} is of a program that is gone")
        return program

    def columns(self, start: int, stop: int) -> Value:
        """A view of some columns.

        Raises:
            ProgramError: there are not so many.
        """
        if not 0 <= start < stop <= self.width:
            raise ProgramError(f"{page_line()}: columns {start} to {stop} of {self}")
        part = Value(self.program, self.index, self.rows, stop - start, self.dtype)
        part.start, part.whole = self.start + start, self.whole
        return part

    def __str__(self) -> str:
        columns = "" if self.width == self.whole else f"[{self.start}:{self.start + self.width}]"
        return f"%{self.index}{columns}"

    @property
    def shape(self) -> str:
        """As listings show it: `bfloat16[tokens, 576]`."""
        return f"{str(self.dtype).removeprefix('torch.')}[{self.rows}, {self.width}]"

    def _unknown(self, what: str) -> NoReturn:
        raise ProgramError(
            f"{page_line()}: {what} of {self.shape}, which is not known before the step: forward code is recorded once"
        )

    def __bool__(self) -> bool:  # noqa: PLE0304
        self._unknown("the truth")

    def __int__(self) -> int:
        self._unknown("the number")

    def __float__(self) -> float:
        self._unknown("the number")

    def __len__(self) -> int:  # noqa: PLE0303
        self._unknown("the length")

    def __iter__(self) -> Iterator[Value]:
        self._unknown("the rows")

    def __getitem__(self, key: object) -> NoReturn:
        self._unknown(f"element {key}")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Op:
    """One op. Its fields that hold values are what it reads, but for those named in `makes`.

    Attributes:
        label: what times are added up under.
        line: the page's, "llama.py:40".
    """

    makes: ClassVar[tuple[str, ...]] = ("out",)
    changes: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Pairs of a made value and the one that becomes it in place, where nobody reads that any more."""

    label: str
    line: str

    def read(self) -> Iterator[Value]:
        """The values it reads."""
        for one in dataclasses.fields(self):
            if one.name not in self.makes:
                yield from _values_in(getattr(self, one.name))

    def made(self) -> Iterator[Value]:
        """The values it makes."""
        for name in self.makes:
            yield from _values_in(getattr(self, name))

    def in_place(self) -> Iterator[tuple[Value, Value]]:
        """Pairs of a made value and the one it may take the place of."""
        for made, old in self.changes:
            if getattr(self, made) is not None:
                yield getattr(self, made), getattr(self, old)

    def __str__(self) -> str:
        operands = ", ".join(
            f"{one.name}={shown(getattr(self, one.name))}"
            for one in dataclasses.fields(self)
            if one.name not in ("label", "line", *self.makes) and getattr(self, one.name) is not None
        )
        made = ", ".join(f"{value}: {value.shape}" for value in self.made())
        return f"{made} = {type(self).__name__}({operands})  # {self.label}, {self.line}"


@dataclass(frozen=True, slots=True)
class Border:
    """Where a program may be cut in two: before its op number `op`, with these values crossing."""

    op: int
    crossing: tuple[Value, ...]


@dataclass(slots=True, weakref_slot=True)
class Program:
    """Ops in the order in which they run, and what goes in and comes out by name."""

    name: str
    ops: list[Op] = field(default_factory=list)
    inputs: dict[str, Value] = field(default_factory=dict)
    outputs: dict[str, Value] = field(default_factory=dict)
    borders: list[Border] = field(default_factory=list)
    num_values: int = 0
    page_line: str = ""
    """Where the layer that is being recorded stands on its page; "" = where its op is asked for."""

    def value(self, width: int, dtype: torch.dtype, rows: str = TOKENS) -> Value:
        """A new value, for an op to make."""
        self.num_values += 1
        return Value(self, self.num_values - 1, rows, width, dtype)

    def input(self, name: str, width: int, dtype: torch.dtype, rows: str = TOKENS) -> Value:
        """A new value that each run brings."""
        self.inputs[name] = value = self.value(width, dtype, rows)
        return value

    def add(self, kind: type[Op], label: str, **fields: Any) -> None:
        """Record an op that the page's current line asks for."""
        self.ops.append(kind(label=label, line=self.page_line or page_line(), **fields))

    def __str__(self) -> str:
        inputs = ", ".join(f"{name} {value}: {value.shape}" for name, value in self.inputs.items())
        outputs = ", ".join(f"{name} {value}" for name, value in self.outputs.items())
        return "\n".join([f"program {self.name}({inputs}):", *(f"  {op}" for op in self.ops), f"  return {outputs}"])


def page_line() -> str:
    """The line, "gemma.py:66", on which whoever is not plumbing called."""
    frame = sys._getframe(1)
    while frame.f_back is not None and any(part in frame.f_code.co_filename for part in _PLUMBING):
        frame = frame.f_back
    return f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"


def _values_in(field: Any) -> Iterator[Value]:
    """A field that is a value, or those of a tuple."""
    for one in field if isinstance(field, tuple) else (field,):
        if isinstance(one, Value):
            yield one


def shown(value: Any) -> str:
    """An operand as listings show it."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, tuple):
        same = len({type(one) for one in value}) == 1 and not isinstance(value[0], Value)
        return f"{len(value)} x {shown(value[0])}" if same else f"({', '.join(map(shown, value))})"
    if callable(value) and hasattr(value, "__name__"):
        return str(value.__name__)
    if isinstance(value, (Value, int, float, str)) or type(value).__module__.startswith("octavo.kernels.program"):
        return str(value)
    return type(value).__name__
