"""Native kernels for CPUs: C++17 behind nanobind, working on raw pointers, so one build serves every torch.

The library holds each kernel for several instruction sets and uses the best the processor has; `set_isa` forces a lower
one. Where it was not built (no compiler at install time), `available` is False, and only `require` may be called.
"""

from __future__ import annotations

import importlib

from octavo import envs
from octavo.errors import ConfigError

INSTALL_HINT = "install a C++17 compiler (Debian: apt-get install g++ python3-dev), then install octavo again"

try:
    importlib.import_module("octavo.kernels.cpu._native")
except ImportError as error:
    _missing: str | None = "the library was not built" if error.name == "octavo.kernels.cpu._native" else str(error)
else:
    _missing = None
    from octavo.kernels.cpu.attention import attention as attention
    from octavo.kernels.cpu.attention import paged_attention as paged_attention
    from octavo.kernels.cpu.attention import rope_and_cache as rope_and_cache
    from octavo.kernels.cpu.blocks import pack_blocks as pack_blocks
    from octavo.kernels.cpu.experts import experts as experts
    from octavo.kernels.cpu.int8 import pack_int8 as pack_int8
    from octavo.kernels.cpu.linear import PackedLinear as PackedLinear
    from octavo.kernels.cpu.linear import gated_linear as gated_linear
    from octavo.kernels.cpu.linear import linear as linear
    from octavo.kernels.cpu.linear import pack_linear as pack_linear
    from octavo.kernels.cpu.lookup import embedding as embedding
    from octavo.kernels.cpu.native import available_isas as available_isas
    from octavo.kernels.cpu.native import best_isa as best_isa
    from octavo.kernels.cpu.native import isa as isa
    from octavo.kernels.cpu.native import num_threads as num_threads
    from octavo.kernels.cpu.native import set_isa as set_isa
    from octavo.kernels.cpu.native import set_num_threads as set_num_threads
    from octavo.kernels.cpu.program import native_program as native_program
    from octavo.kernels.cpu.rows import activate as activate
    from octavo.kernels.cpu.rows import add_rms_norm as add_rms_norm
    from octavo.kernels.cpu.rows import gelu_and_mul as gelu_and_mul
    from octavo.kernels.cpu.rows import layer_norm as layer_norm
    from octavo.kernels.cpu.rows import rms_norm as rms_norm
    from octavo.kernels.cpu.rows import silu_and_mul as silu_and_mul
    from octavo.kernels.cpu.sampling import sample as sample
    from octavo.kernels.cpu.sampling import sample_linear as sample_linear
    from octavo.kernels.cpu.sampling import top_logprobs as top_logprobs

    if envs.CPU_ISA:
        set_isa(envs.CPU_ISA)


def available() -> bool:
    """Whether the native library is there."""
    return _missing is None


def require() -> None:
    """Raises:
    ConfigError: the native library is not there, and why.
    """
    if _missing is not None:
        raise ConfigError(f"the cpu kernels are missing ({_missing}): {INSTALL_HINT}")
