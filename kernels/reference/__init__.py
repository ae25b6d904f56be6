"""Every operation of `kernels/ops.py` in plain torch: the definition of right, and what runs where nothing faster does.

Works on any device and any float type. Each operation computes in float32 (float64 for float64 inputs) and rounds once, at
the end. Sums are torch's, so results may differ in the last bit from one batch shape to another; the native sets do not.
"""

from octavo.kernels.reference.activation import activate, gelu_and_mul, silu_and_mul
from octavo.kernels.reference.attention import attention, paged_attention
from octavo.kernels.reference.blocks import pack_blocks
from octavo.kernels.reference.experts import experts
from octavo.kernels.reference.int8 import pack_int8
from octavo.kernels.reference.linear import embedding, gated_linear, linear, native_program, pack_linear
from octavo.kernels.reference.norm import add_rms_norm, layer_norm, rms_norm
from octavo.kernels.reference.rope import rope_and_cache
from octavo.kernels.reference.sampling import sample, sample_linear, top_logprobs

__all__ = [
    "activate",
    "add_rms_norm",
    "attention",
    "embedding",
    "experts",
    "gated_linear",
    "gelu_and_mul",
    "layer_norm",
    "linear",
    "native_program",
    "pack_blocks",
    "pack_int8",
    "pack_linear",
    "paged_attention",
    "rms_norm",
    "rope_and_cache",
    "sample",
    "sample_linear",
    "silu_and_mul",
    "top_logprobs",
]
