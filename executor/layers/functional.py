"""What pages do to values besides multiplying with weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from octavo.kernels.program import Value
from octavo.kernels.program_ops import (
    Activate,
    Add,
    Attend,
    AttendFresh,
    CacheRef,
    CacheWrite,
    Call,
    Function,
    Mask,
    Pointwise,
    RopeAndCache,
)

ACTIVATIONS: dict[str, Pointwise] = {
    "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu",
    "tanh": "tanh",
}  # fmt: skip
"""Names as in config.json."""


def split(x: Value, *widths: int) -> list[Value]:
    """Columns of x, side by side, in parts of these widths."""
    parts, start = [], 0
    for width in widths:
        parts.append(x.columns(start, start + width))
        start += width
    return parts


def add(x: Value, y: Value) -> Value:
    """The sum of two values of one shape and type. Raises: ValueError: they differ."""
    if (x.width, x.rows, x.dtype) != (y.width, y.rows, y.dtype):
        raise ValueError(f"a sum of {x.shape} and {y.shape}")
    out = x.program.value(x.width, x.dtype, x.rows)
    x.program.add(Add, "add", x=x, y=y, out=out)
    return out


def activate(x: Value, activation: Pointwise) -> Value:
    """activation(x), number by number."""
    out = x.program.value(x.width, x.dtype, x.rows)
    x.program.add(Activate, "activation", x=x, activation=activation, out=out)
    return out


def rotate_and_keep(
    q: Value, k: Value, v: Value, positions: Value, cos_sin: torch.Tensor, cache: CacheRef, head_dim: int
) -> Value:
    """q, rotated by its positions; k, rotated too, and v go into the cache. cos_sin: see `ops.rope_and_cache`."""
    program = q.program
    rotated = program.value(q.width, q.dtype, q.rows)
    program.add(
        RopeAndCache, "rope", q=q, k=k, v=v, positions=positions, cos_sin=cos_sin, cache=cache, head_dim=head_dim,
        rotated_q=rotated, rotated_k=program.value(k.width, k.dtype, k.rows),
    )  # fmt: skip
    return rotated


def attend(
    q: Value, cache: CacheRef, head_dim: int, scale: float, *, window: int = 0, soft_cap: float = 0.0, mask: Mask = "causal"
) -> Value:
    """Attention of q [tokens, heads * head_dim] over a cache."""
    out = q.program.value(q.width, q.dtype, q.rows)
    q.program.add(
        Attend,
        "attention",
        q=q,
        cache=cache,
        head_dim=head_dim,
        scale=scale,
        window=window,
        soft_cap=soft_cap,
        mask=mask,
        out=out,
    )
    return out


def attend_fresh(
    q: Value, k: Value, v: Value, head_dim: int, scale: float, *, window: int = 0, mask: Literal["causal", "full"] = "full"
) -> Value:
    """Attention of q [tokens, heads * head_dim] among the tokens of each request, without a cache."""
    out = q.program.value(q.width, q.dtype, q.rows)
    q.program.add(
        AttendFresh, "attention", q=q, k=k, v=v, head_dim=head_dim, scale=scale, window=window, soft_cap=0.0, mask=mask, out=out
    )
    return out


def write_cache(k: Value, v: Value, cache: CacheRef, head_dim: int) -> None:
    """Keep k and v [rows, kv_heads * head_dim] as they are, where the step says."""
    k.program.add(CacheWrite, "cache", k=k, v=v, cache=cache, head_dim=head_dim)


def call(function: Function, values: Sequence[Value], widths: Sequence[int], dtype: torch.dtype) -> list[Value]:
    """What a Python function makes of values: tensors [rows, width] of a type, one for each of `widths`; see `program_ops.Call`."""
    first = values[0]
    outs = tuple(first.program.value(width, dtype, first.rows) for width in widths)
    first.program.add(Call, "call", function=function, values=tuple(values), outs=outs)
    return list(outs)
