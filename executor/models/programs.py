"""A model's programs, recorded and compiled when a step first needs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from octavo.executor.attention import KVCache
from octavo.kernels.compile import compile_program
from octavo.kernels.program import Program
from octavo.kernels.step import Runnable

Record = Callable[[str, Sequence[int]], Program]
"""Records the program of a name, for layers of these cache groups."""


class Programs:
    """Programs over one set of caches, by name."""

    def __init__(self) -> None:
        self._compiled: dict[str, Runnable] = {}
        self._caches: list[KVCache] | None = None

    def get(self, record: Record, name: str, kv_caches: list[KVCache], layer_groups: Sequence[int]) -> Runnable:
        """The program over these caches, recorded and compiled when they are first seen.

        Args:
            record: makes it. It is not kept, for it is a model's, which keeps this: a model's memory goes with its last user.
        """
        if self._caches is not kv_caches:
            self._compiled, self._caches = {}, kv_caches
        program = self._compiled.get(name)
        if program is None:
            program = self._compiled[name] = compile_program(record(name, layer_groups), kv_caches)
        return program

    def forget(self) -> None:
        """Let go of the caches."""
        self._compiled, self._caches = {}, None

    def profile(self, enable: bool) -> bool:
        """Measure the ops from now on; False when there is no program yet."""
        for program in self._compiled.values():
            program.profile(enable)
        return bool(self._compiled)

    def timings(self) -> dict[str, float]:
        """Seconds spent in each op since the last call, by name; empty unless profiled."""
        timings: dict[str, float] = {}
        for program in self._compiled.values():
            for label, seconds in program.timings().items():
                timings[label] = timings.get(label, 0.0) + seconds
        return timings
