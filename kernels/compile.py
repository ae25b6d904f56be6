"""A program made ready to run: in one call where the kernels in use have all it needs, else op by op."""

from __future__ import annotations

import logging

from octavo.kernels import ops
from octavo.kernels.interpreter import Interpreter
from octavo.kernels.program import Program
from octavo.kernels.program_ops import Call
from octavo.kernels.segments import Segmented
from octavo.kernels.step import Caches, Runnable

logger = logging.getLogger(__name__)


def compile_program(program: Program, caches: Caches) -> Runnable:
    """What runs `program` over `caches`; both stay where they are."""
    if any(isinstance(op, Call) for op in program.ops):
        return Segmented(program, lambda part: _compile_part(part, caches))
    return _compile_part(program, caches)


def _compile_part(program: Program, caches: Caches) -> Runnable:
    if isinstance(program.ops[0], Call):
        return Interpreter(program, caches)
    native, lacking = ops.native_program(program, caches)
    if native is not None:
        return native
    if lacking:
        logger.warning(
            "the %s kernels cannot run %s whole (%s): it runs op by op, which is slower", ops.current(), program.name, lacking
        )
    return Interpreter(program, caches)
