"""Programs cut into parts that run one after the other: what a Python function does in their midst is a part of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from octavo.kernels.program import Op, Program, Value
from octavo.kernels.program_ops import Call
from octavo.kernels.step import Runnable, Step


def cut_at_calls(program: Program) -> list[Program]:
    """The program in parts, each `Call` alone. What crosses a cut is an output of one part and an input of others, named "%3"."""
    runs: list[list[Op]] = [[]]
    for op in program.ops:
        if isinstance(op, Call):
            runs += [[op], []]
        else:
            runs[-1].append(op)
    return _parts(program, [run for run in runs if run])


def _parts(program: Program, runs: Sequence[list[Op]]) -> list[Program]:
    whole = _whole_values(program)
    wanted = {value.index for value in program.outputs.values()}
    parts: list[Program] = []
    for number in reversed(range(len(runs))):
        made = {value.index for op in runs[number] for value in op.made()}
        read = {value.index for op in runs[number] for value in op.read()}
        part = Program(f"{program.name}, part {number + 1} of {len(runs)}", runs[number], num_values=program.num_values)
        part.inputs = {name_of(index): whole[index] for index in sorted(read - made)}
        part.outputs = {name_of(index): whole[index] for index in sorted(wanted & made)}
        wanted |= read
        parts.append(part)
    return parts[::-1]


def name_of(index: int) -> str:
    """What a value that crosses a cut is called."""
    return f"%{index}"


def _whole_values(program: Program) -> dict[int, Value]:
    """Every value by its number, as it was made."""
    made = (value for op in program.ops for value in op.made())
    return {value.index: value for value in (*program.inputs.values(), *made)}


class Segmented:
    """A program in parts. See `Runnable`.

    Args:
        compile_part: makes a part ready to run.
    """

    def __init__(self, program: Program, compile_part: Callable[[Program], Runnable]) -> None:
        self._inputs = {name: name_of(value.index) for name, value in program.inputs.items()}
        self._outputs = {name: name_of(value.index) for name, value in program.outputs.items()}
        programs = cut_at_calls(program)
        self._parts = [(tuple(part.inputs), compile_part(part)) for part in programs]
        self._done_with = list(_last_uses([tuple(part.inputs) for part in programs], set(self._outputs.values())))

    def run(self, inputs: Mapping[str, torch.Tensor], step: Step) -> dict[str, torch.Tensor]:
        """See `Runnable.run`."""
        values = {self._inputs[name]: tensor for name, tensor in inputs.items()}
        for (names, part), done in zip(self._parts, self._done_with, strict=True):
            values |= part.run({name: values[name] for name in names}, step)
            for name in done:
                del values[name]
        return {name: values[value] for name, value in self._outputs.items()}

    def profile(self, enable: bool) -> None:
        """See `Runnable.profile`."""
        for _, part in self._parts:
            part.profile(enable)

    def timings(self) -> dict[str, float]:
        """See `Runnable.timings`."""
        total: dict[str, float] = {}
        for _, part in self._parts:
            for label, seconds in part.timings().items():
                total[label] = total.get(label, 0.0) + seconds
        return total


def _last_uses(inputs: Sequence[tuple[str, ...]], kept: set[str]) -> Iterator[list[str]]:
    """For each part the values that no part behind it reads."""
    for number, names in enumerate(inputs):
        later = {name for some in inputs[number + 1 :] for name in some} | kept
        yield [name for name in names if name not in later]
