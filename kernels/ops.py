"""Every operation once, with its shapes: what programs are run with, and what may be called by itself.

Behind it stand kernel sets: `reference/` (plain torch, the definition of right), `cpu/` (native), `triton/` (GPU). `use`
picks one; what a set lacks, the reference does. T is tokens, R requests, H hidden size, V vocabulary.

Tensors are contiguous in the last dimension; the stride between rows is free (q, k and v are views into one product).
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from octavo import envs
from octavo.errors import ConfigError
from octavo.kernels.blocks import Blocks
from octavo.kernels.checked import checked_set
from octavo.kernels.program import Program
from octavo.kernels.program_ops import Activation, Pointwise
from octavo.kernels.step import Caches, Runnable

OPS = (
    "pack_linear", "pack_int8", "pack_blocks", "linear", "gated_linear", "native_program", "embedding", "rms_norm",
    "add_rms_norm", "layer_norm", "rope_and_cache", "paged_attention", "attention", "activate", "silu_and_mul", "gelu_and_mul",
    "experts", "sample", "sample_linear", "top_logprobs",
)  # fmt: skip

logger = logging.getLogger(__name__)

_set = SimpleNamespace()
_name = ""


def use(name: str | None = None, device: str = "cpu") -> str:
    """Choose the kernel set: `name`, else OCTAVO_KERNELS, else the best that runs on `device`. Returns its name.

    Raises:
        ConfigError: a set named explicitly cannot run here, and why.
    """
    global _name
    wanted = name or envs.KERNELS
    chosen = wanted or _best(device)
    reference = importlib.import_module("octavo.kernels.reference")
    module = reference if chosen == "reference" else _import(chosen)
    if chosen != "reference":
        module.require()
    for op in OPS:
        setattr(_set, op, getattr(module, op, None) or getattr(reference, op))
    if envs.CHECK_OPS:
        names = {op: tuple(inspect.signature(globals()[op]).parameters) for op in OPS}
        vars(_set).update(vars(checked_set(SimpleNamespace(**vars(_set)), reference, names)))
    _name = chosen
    return chosen


def _import(name: str) -> ModuleType:
    """A kernel set's package. Raises: ConfigError: this version has none of that name."""
    package = f"octavo.kernels.{name}"
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"there are no {name} kernels in this version; OCTAVO_KERNELS may be reference or cpu")
    return importlib.import_module(package)


def current() -> str:
    """Name of the kernel set in use, "" before `use`."""
    return _name


def _best(device: str) -> str:
    """The fastest set that runs on a kind of device."""
    if device != "cpu":
        return "reference"
    cpu = importlib.import_module("octavo.kernels.cpu")
    if cpu.available():
        if cpu.best_isa() not in cpu.available_isas():
            logger.warning(
                "the native kernels were built on another kind of processor: %s runs, this one could run %s; install octavo again",
                cpu.available_isas()[0], cpu.best_isa(),
            )  # fmt: skip
        return "cpu"
    logger.warning("native CPU kernels are missing, plain torch runs instead (much slower): %s", cpu.INSTALL_HINT)
    return "reference"


def pack_linear(
    weight: torch.Tensor, bias: torch.Tensor | None = None, gated: bool = False, dtype: torch.dtype | None = None
) -> Any:
    """Lay a weight [N, K] (and bias [N]) out as `linear` wants it. Done once at load; the result is opaque.

    gated: the upper half of the weight's rows are gates, the lower half ups, for `gated_linear`. dtype: of x and the bias,
    None = the weight's; a weight of 16 bits also takes float32, stays as it is, and gives the bits that it would give widened.
    The native sets copy, and keep nothing of `weight`; the reference's result may hold `weight` itself.
    """
    return _set.pack_linear(weight, bias, gated, dtype)


def pack_int8(weight: torch.Tensor, bias: torch.Tensor | None = None, gated: bool = False) -> Any:
    """Lay a weight [N, K] out in 8 bits, for products in 8 bits.

    Each row of the weight, and of x when it comes, is mixed (multiplied by an orthogonal matrix, which shares outliers among
    their neighbours and leaves products as they are) and becomes integers of -127 to 127 and one float32 scale, its largest
    magnitude / 127. Products are summed as integers, exactly, then scaled in float32: all kernel sets give the same bits. A
    row of x that holds a NaN or infinity gives NaN; one whose magnitudes all lie below 1e-30 / 254 counts as zeros.

    Raises:
        ValueError: K is more than 131072, where sums of 32 bits could overflow.
    """
    return _set.pack_int8(weight, bias, gated)


def pack_blocks(
    blocks: Blocks, dtype: torch.dtype, bias: torch.Tensor | None = None, gated: bool = False, integer: bool = False
) -> Any:
    """Lay out a weight in the blocks of a GGUF file, which it keeps to the bit, and x (and bias) of type dtype.

    Products are those of the values that the blocks stand for, rounded to dtype: the bits that `pack_linear` of them gives.
    Or, with `integer`, they are made in 8 bits: every 32 successive values of a row of x become integers of -127 to 127 and
    one float32 scale, their largest magnitude / 127 (all zeros if that is below 1e-30; NaN if one of them is not finite). A
    block's products are summed exactly, blocks in float32.

    Raises:
        ValueError: rows are not made of whole blocks, or the bias does not fit.
    """
    return _set.pack_blocks(blocks, dtype, bias, gated, integer)


def linear(x: torch.Tensor, packed: Any, wide: bool = False) -> torch.Tensor:
    """Multiply x [T, K] with the packed weight, add the bias -> [T, N] in x's type.

    With `wide` the result is float32: logits keep what rounding to 16 bits would blur. Accumulates in float32. An output
    row depends on its input row alone, not on T (native sets; the reference is torch's and may differ in the last bit).
    """
    return _set.linear(x, packed, wide)


def gated_linear(x: torch.Tensor, packed: Any, activation: Activation) -> torch.Tensor:
    """Multiply x [T, K] with a gated weight [2N, K] -> activation(gate) * up, [T, N] in x's type.

    Equal to `linear` followed by `silu_and_mul` or `gelu_and_mul`; the native sets do not round in between.
    """
    return _set.gated_linear(x, packed, activation)


def native_program(program: Program, caches: Caches) -> tuple[Runnable | None, str]:
    """All of a program as one call, and "" - or None, and what of it the set lacks ("" where it has no programs at all).

    The result reads the program's weights and the caches, which stay where they are.
    """
    runnable, lacking = _set.native_program(program, caches)
    return runnable, lacking


def embedding(ids: torch.Tensor, weight: torch.Tensor | Any) -> torch.Tensor:
    """Rows of weight [V, H] for ids int32 or int64 [T] -> [T, H].

    weight may also be what `pack_linear`, `pack_int8` or `pack_blocks` made of it: an embedding tied to the head then takes no
    memory of its own.

    Raises:
        IndexError: an id outside [0, V) (on a GPU, when the device reports it).
    """
    return _set.embedding(ids, weight)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Root-mean-square norm over the last dimension (Zhang & Sennrich 2019), computed in float32 -> new tensor like x.

    x: [T, H], or [T, n, H] for per-head norms. weight: [H], the result's type or float32. dtype: the result's, where x is
    a float32 residual [T, H].
    """
    return _set.rms_norm(x, weight, eps, dtype)


def add_rms_norm(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Add x to the residual in place, then norm that -> new tensor of x's type.

    x: [T, H]. residual: [T, H] in x's type or float32; kept in float32, the sum over many layers is not rounded each time.
    """
    return _set.add_rms_norm(x, residual, weight, eps)


def layer_norm(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, eps: float, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Layer norm over the last dimension (Ba et al. 2016), computed in float32 -> new tensor like x, of type `dtype` if given.

    x: [T, H] or [T, n, H]. weight, bias: [H], of one type, the result's or float32.
    """
    return _set.layer_norm(x, weight, bias, eps, dtype)


def rope_and_cache(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    positions: torch.Tensor,
    cos_sin: torch.Tensor,
    slot_mapping: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
) -> None:
    """Rotate q and k in place (Su et al. 2021, the two-halves form) and write k and v to the cache.

    Args:
        q: [T, Hq, D]; k, v: [T, Hkv, D].
        positions: int64 [T], rows of cos_sin.
        cos_sin: float32 [P, rot], cosines in the first half, sines in the second; rot <= D even, dimensions past rot pass.
        slot_mapping: int64 [T], block * block_size + offset; a negative slot is not written.
        k_cache, v_cache: [num_blocks, Hkv, block_size, D], possibly another float type than k. In which order a head's part
            of a block holds its block_size * D numbers is the set's own affair.
    """
    _set.rope_and_cache(q, k, v, positions, cos_sin, slot_mapping, k_cache, v_cache)


def paged_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    query_starts: torch.Tensor,
    seq_lens: torch.Tensor,
    block_tables: torch.Tensor,
    scale: float,
    sliding_window: int = 0,
    soft_cap: float = 0.0,
    full: bool = False,
) -> torch.Tensor:
    """Attention of new tokens over their requests' paged contexts, softmax in float32 -> new [T, Hq, D].

    Query i of request r (i counts from its first new token) sits at position seq_lens[r] - n_r + i, where n_r is
    query_starts[r+1] - query_starts[r], and sees keys at positions p <= its own; with sliding_window w > 0 only the last w
    of them, itself included. soft_cap c > 0 turns a score s into c * tanh(s / c). Query head h reads KV head
    h // (Hq // Hkv). The order in which a query's keys are reduced depends on its position and block_size alone.

    full: every query of r sees all of the first seq_lens[r] keys, however many queries there are; with sliding_window w > 0, where
    there are no more queries than keys, those less than w positions away on either side. Without keys the result is zeros.

    Args:
        q: [T, Hq, D]. k_cache, v_cache: [num_blocks, Hkv, block_size, D], as rope_and_cache wrote them.
        query_starts: int32 [R + 1]. seq_lens: int32 [R]. block_tables: int32 [R, B].
    """
    return _set.paged_attention(
        q, k_cache, v_cache, query_starts, seq_lens, block_tables, scale, sliding_window, soft_cap, full
    )


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    query_starts: torch.Tensor,
    scale: float,
    sliding_window: int = 0,
    soft_cap: float = 0.0,
    full: bool = True,
) -> torch.Tensor:
    """Attention among the tokens of each request, without a cache -> new [T, Hq, D]; else as `paged_attention`.

    Args:
        q: [T, Hq, D]; k, v: [T, Hkv, D].
        query_starts: int32 [R + 1]; request r has the tokens query_starts[r] to query_starts[r + 1] - 1.
    """
    return _set.attention(q, k, v, query_starts, scale, sliding_window, soft_cap, full)


def activate(x: torch.Tensor, activation: Pointwise) -> torch.Tensor:
    """activation(x) for each number of x [T, N], computed in float32 -> new tensor."""
    return _set.activate(x, activation)


def experts(
    x: torch.Tensor,
    router: torch.Tensor,
    gate_up: Sequence[Any],
    down: Sequence[Any],
    activation: Activation,
    top_k: int,
    renormalize: bool,
) -> torch.Tensor:
    """A mixture of E experts (Shazeer et al. 2017, routed as Mixtral does) over x [T, H] -> [T, H] in x's type.

    A row's probabilities are the softmax of its row of `router` [T, E], in float32. It goes to the `top_k` likeliest experts (of
    equals the first ones); what they give, down(activation(gate) * up), is added up in float32 in their order, each times its
    probability, which `renormalize` divides by those of all the chosen ones. A row's result does not depend on the others.

    Args:
        gate_up, down: packed weights of each expert, the former gated ones.
    """
    return _set.experts(x, router, gate_up, down, activation, top_k, renormalize)


def silu_and_mul(x: torch.Tensor) -> torch.Tensor:
    """silu(x[:, :N]) * x[:, N:] for x [T, 2N] -> [T, N], computed in float32."""
    return _set.silu_and_mul(x)


def gelu_and_mul(x: torch.Tensor) -> torch.Tensor:
    """gelu(x[:, :N]) * x[:, N:] for x [T, 2N] -> [T, N], with the tanh approximation of GELU, computed in float32."""
    return _set.gelu_and_mul(x)


def sample(logits: torch.Tensor, draws: torch.Tensor | None, tokens: torch.Tensor, peaks: torch.Tensor) -> None:
    """Pick one token a row of logits, float32 [R, V]: the most likely, or one drawn.

    To draw, logits are divided by temperature; then min_p (relative to the best), top_k (0 = off) and top_p (the smallest
    set of most likely tokens that reaches it; ties to the lower id) each remove tokens; what is left is renormalized and laid
    out in order of token id, and its cumulative sum inverted at `uniform`. Rows of temperature 0, and those whose largest
    logit is not finite, get the token of the largest logit, the lowest among equals. A NaN counts as the largest: a row whose
    largest is finite is without NaN and +inf, and some token of it is possible. Rows are independent of one another.

    Args:
        draws: float64 [R, 5], contiguous: temperature, top_k, top_p, min_p, and uniform in [0, 1). One tensor, as every
            argument costs time. Temperature, top_p and min_p are rounded to float32. None: no row is drawn.
        tokens, peaks: int64 [R] and float32 [R], where the tokens and the largest logits are written: who calls in every step
            keeps the memory.
    """
    _set.sample(logits, draws, tokens, peaks)


def sample_linear(x: torch.Tensor, packed: Any, draws: torch.Tensor | None, tokens: torch.Tensor, peaks: torch.Tensor) -> None:
    """`sample` of `linear(x, packed, wide=True)`, the same tokens; the native sets do not write the logits.

    Rows are drawn from all tokens.

    Raises:
        ValueError: top_k, top_p or min_p of a row would remove tokens.
    """
    _set.sample_linear(x, packed, draws, tokens, peaks)


def top_logprobs(logits: torch.Tensor, chosen: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-softmax of each row at `chosen` and at its k largest, and the rank of `chosen` (1 = largest).

    logits [R, V] float32, chosen int64 [R] -> ids int32 [R, 1 + k], logprobs float32 [R, 1 + k], ranks int32 [R].
    """
    return _set.top_logprobs(logits, chosen, k)
