"""The ops that programs are made of. What an op does is said in its class; a fused op equals the composition of its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from octavo.kernels.program import Op, Value, shown
from octavo.kernels.step import Caches, Step

Activation = Literal["silu", "gelu"]
"""Of a gated feed-forward block; gelu is the tanh approximation."""

Pointwise = Literal["gelu", "gelu_tanh", "relu", "silu", "tanh"]
"""Of single numbers; gelu is the exact one, by the error function."""

Mask = Literal["causal", "full", "encoder"]
"""Which keys a query sees: those up to its own position, all of its request, or all of what its request's encoder gave."""


@dataclass(frozen=True, slots=True)
class CacheRef:
    """One layer's keys and values: which of the model's caches, and the cache group whose block tables it follows."""

    layer: int
    group: int = 0

    def __str__(self) -> str:
        return f"layer {self.layer} of group {self.group}"


@dataclass(frozen=True, slots=True, eq=False)
class NormWeight:
    """A norm's weight and bias [size]; weight None = nothing is normed, x is only rounded to the output's type.

    centred: layer norm (the mean is subtracted first), else root-mean-square norm.
    """

    weight: torch.Tensor | None
    eps: float
    bias: torch.Tensor | None = None
    centred: bool = False

    def __str__(self) -> str:
        if self.weight is None:
            return "none"
        return f"{'layer ' if self.centred else ''}{shown(self.weight)} eps {self.eps:g}"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Copy(Op):
    """x as a value of its own; planned where an op changes in place what is still read."""

    x: Value
    out: Value


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Embed(Op):
    """Rows of a table (see `ops.embedding`) for ids int64 [tokens, 1], times a scale."""

    ids: Value
    table: Any
    scale: float
    out: Value


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Widen(Op):
    """x in float32: a sum of many layers is not rounded each time."""

    x: Value
    out: Value


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Norm(Op):
    """Norm of x, after adding `addend` to it where there is one (`total` is that sum, of x's type).

    x counts as `parts` equal parts of a row, each normed by itself with the one weight [width / parts].
    """

    makes = ("total", "out")
    changes = (("total", "x"),)

    x: Value
    addend: Value | None
    norm: NormWeight
    parts: int
    total: Value | None
    out: Value


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Linear(Op):
    """x times a packed weight, plus its bias. gate: of a gated weight, activation(gate) * up."""

    x: Value
    weight: Any
    gate: Activation | None
    out: Value


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NormLinear(Op):
    """`Norm` of x (with its addend), whose rows are kept in `normed`, and then `Linear` of them."""

    makes = ("total", "normed", "out")
    changes = (("total", "x"),)

    x: Value
    addend: Value | None
    norm: NormWeight
    weight: Any
    gate: Activation | None
    total: Value | None
    normed: Value
    out: Value


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LinearAdd(Op):
    """total + scale * `Linear` of x, in float32."""

    changes = (("out", "total"),)

    x: Value
    weight: Any
    scale: float
    total: Value
    out: Value


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RopeAndCache(Op):
    """q [tokens, heads * D] and k [tokens, kv_heads * D] rotated by their positions; k and v go into the cache.

    See `ops.rope_and_cache`.
    """

    makes = ("rotated_q", "rotated_k")
    changes = (("rotated_q", "q"), ("rotated_k", "k"))

    q: Value
    k: Value
    v: Value
    positions: Value
    cos_sin: torch.Tensor
    cache: CacheRef
    head_dim: int
    rotated_q: Value
    rotated_k: Value


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CacheWrite(Op):
    """k and v [rows, kv_heads * D] go into the cache as they are, to the slots that the step names for its group."""

    makes = ()

    k: Value
    v: Value
    cache: CacheRef
    head_dim: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Attend(Op):
    """Attention of q [tokens, heads * D] over the cache; see `ops.paged_attention`. Mask "encoder": over the keys of the
    request's encoder, of which the step's encoder_lens says how many there are; zeros where there are none.
    """

    q: Value
    cache: CacheRef
    head_dim: int
    scale: float
    window: int
    soft_cap: float
    mask: Mask = "causal"
    out: Value


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AttendFresh(Op):
    """Attention of q [tokens, heads * D] over the step's own k and v [tokens, kv_heads * D], request by request, without a cache."""

    q: Value
    k: Value
    v: Value
    head_dim: int
    scale: float
    window: int
    soft_cap: float
    mask: Literal["causal", "full"]
    out: Value


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Activate(Op):
    """activation(x), number by number, computed in float32."""

    changes = (("out", "x"),)

    x: Value
    activation: Pointwise
    out: Value


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Add(Op):
    """x + y."""

    changes = (("out", "x"),)

    x: Value
    y: Value
    out: Value


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Experts(Op):
    """A mixture of experts: each row of x goes to the `top_k` experts of which `router` [rows, E] says most; see `ops.experts`.

    gate_up, down: weights of each expert, the former gated.
    """

    x: Value
    router: Value
    gate_up: tuple[Any, ...]
    down: tuple[Any, ...]
    activation: Activation
    top_k: int
    renormalize: bool
    out: Value


Function = Callable[[Sequence[torch.Tensor], Step, Caches], Sequence[torch.Tensor]]
"""Of views of values [rows, width], the step, and the caches."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Call(Op):
    """What a Python function makes of values: the way out for what no op says. It cuts the program in two.

    function: returns a tensor [rows, width] for each of `outs`.
    """

    makes = ("outs",)

    function: Function
    values: tuple[Value, ...]
    outs: tuple[Value, ...]
