# What csrc/bindings/ offers: addresses, strides and sizes; a bool says whether all indices were inside their tables.

from collections.abc import Sequence
from typing import Any, TypeAlias

def isa() -> str: ...
def best_isa() -> str: ...
def available_isas() -> list[str]: ...
def select_isa(name: str) -> bool: ...
def num_threads() -> int: ...
def set_num_threads(count: int) -> None: ...
def read_memory(data: int, size: int, /) -> int: ...
def multiply(dtype: int, rounds: int, /) -> int: ...
def rms_norm(
    dtype: int,
    weight_dtype: int,
    wide: bool,
    out: int,
    x: int,
    x_stride: int,
    x_inner_stride: int,
    residual: int,
    residual_stride: int,
    weight: int,
    bias: int,
    centred: bool,
    outer: int,
    inner: int,
    size: int,
    eps: float,
    /,
) -> None: ...
def activate(dtype: int, activation: int, out: int, x: int, x_stride: int, rows: int, size: int, /) -> None: ...
def silu_and_mul(dtype: int, out: int, x: int, x_stride: int, rows: int, size: int, /) -> None: ...
def gelu_and_mul(dtype: int, out: int, x: int, x_stride: int, rows: int, size: int, /) -> None: ...
def rope_and_cache(
    dtype: int,
    cache_dtype: int,
    q: int,
    q_stride: Sequence[int],
    k: int,
    k_stride: Sequence[int],
    v: int,
    v_stride: Sequence[int],
    positions: int,
    cos_sin: int,
    num_positions: int,
    rotary_dim: int,
    slots: int,
    k_cache: int,
    k_cache_stride: Sequence[int],
    v_cache: int,
    v_cache_stride: Sequence[int],
    num_tokens: int,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    num_blocks: int,
    block_size: int,
    /,
) -> bool: ...
def paged_attention(
    dtype: int,
    cache_dtype: int,
    out: int,
    q: int,
    q_stride: Sequence[int],
    k_cache: int,
    k_cache_stride: Sequence[int],
    v_cache: int,
    v_cache_stride: Sequence[int],
    query_starts: int,
    seq_lens: int,
    block_tables: int,
    block_table_stride: int,
    num_requests: int,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    num_blocks: int,
    block_size: int,
    max_blocks: int,
    scale: float,
    soft_cap: float,
    sliding_window: int,
    full: bool,
    /,
) -> bool: ...
def embedding(
    dtype: int,
    packed: Weight | None,
    table: int,
    stride: int,
    out: int,
    ids: int,
    wide_ids: bool,
    num_ids: int,
    vocab_size: int,
    size: int,
) -> bool: ...

class Weight:
    def __init__(self, form: int, dtype: int, stored: int, integer: bool, data: int, bias: int, n: int, k: int, /) -> None: ...

def linear(
    dtype: int, epilogue: int, scale: float, out: int, out_stride: int, x: int, x_stride: int, rows: int, weight: Weight, /
) -> None: ...
def pack_linear(dtype: int, gated: bool, packed: int, weight: int, weight_stride: int, n: int, k: int, /) -> None: ...
def compact_linear(compact: int, dense: int, n: int, k: int, capacity: int, /) -> int: ...
def pack_int8(dtype: int, gated: bool, packed: int, weight: int, weight_stride: int, n: int, k: int, /) -> None: ...
def pack_blocks(form: int, gated: bool, packed: int, blocks: int, n: int, k: int, /) -> None: ...
def blocks_bytes(form: int, n: int, k: int, /) -> int: ...

_Operand: TypeAlias = tuple[int, int, int]
_Norm: TypeAlias = tuple[int, int, float, int, bool]

class Program:
    def __init__(self) -> None: ...
    def add_buffer(self, row_bytes: int, /) -> int: ...
    def add_outside_buffer(self) -> int: ...
    def add_copy(self, label: str, x: _Operand, out: _Operand, row_bytes: int, item_bytes: int, /) -> None: ...
    def add_embed(
        self,
        label: str,
        ids: _Operand,
        out: _Operand,
        dtype: int,
        packed: Weight | None,
        table: int,
        table_stride: int,
        vocab_size: int,
        size: int,
        scale: float,
    ) -> None: ...
    def add_widen(self, label: str, x: _Operand, out: _Operand, dtype: int, size: int, /) -> None: ...
    def add_norm(
        self,
        label: str,
        x: _Operand,
        addend: _Operand,
        out: _Operand,
        dtype: int,
        residual: bool,
        wide: bool,
        norm: _Norm,
        parts: int,
        size: int,
        /,
    ) -> None: ...
    def add_linear(
        self, label: str, x: _Operand, out: _Operand, dtype: int, weight: Weight, epilogue: int, scale: float, /
    ) -> None: ...
    def add_norm_linear(
        self,
        label: str,
        residual: _Operand,
        addend: _Operand,
        norm: _Norm,
        x: _Operand,
        out: _Operand,
        dtype: int,
        weight: Weight,
        epilogue: int,
        /,
    ) -> None: ...
    def add_rope(
        self,
        label: str,
        q: _Operand,
        k: _Operand,
        v: _Operand,
        positions: _Operand,
        dtype: int,
        cos_sin: int,
        num_positions: int,
        rotary_dim: int,
        num_heads: int,
        cache: tuple[Any, ...],
        /,
    ) -> None: ...
    def add_attend(
        self,
        label: str,
        q: _Operand,
        out: _Operand,
        dtype: int,
        num_heads: int,
        scale: float,
        soft_cap: float,
        sliding_window: int,
        mask: int,
        cache: tuple[Any, ...],
        /,
    ) -> None: ...
    def add_cache_write(self, label: str, k: _Operand, v: _Operand, dtype: int, cache: tuple[Any, ...], /) -> None: ...
    def add_attend_fresh(
        self,
        label: str,
        q: _Operand,
        k: _Operand,
        v: _Operand,
        out: _Operand,
        dtype: int,
        heads: tuple[int, int, int],
        scale: float,
        soft_cap: float,
        sliding_window: int,
        mask: int,
        /,
    ) -> None: ...
    def add_activate(self, label: str, x: _Operand, out: _Operand, dtype: int, activation: int, size: int, /) -> None: ...
    def add_add(self, label: str, x: _Operand, y: _Operand, out: _Operand, dtype: int, size: int, /) -> None: ...
    def add_experts(
        self,
        label: str,
        x: _Operand,
        router: _Operand,
        out: _Operand,
        dtype: int,
        router_dtype: int,
        gate: int,
        gate_up: Sequence[Weight],
        down: Sequence[Weight],
        top_k: int,
        renormalize: bool,
        /,
    ) -> None: ...
    def run(
        self,
        rows: int,
        outside: Sequence[int],
        num_requests: int,
        query_starts: int,
        seq_lens: int,
        encoder_lens: int,
        groups: Sequence[tuple[int, int, int, int]],
        /,
    ) -> int: ...
    def profile(self, enable: bool, /) -> None: ...
    def take_timings(self) -> list[tuple[str, float]]: ...

def sample(logits: int, stride: int, rows: int, vocab_size: int, draws: int, tokens: int, peaks: int, /) -> None: ...
def sample_linear(
    dtype: int, x: int, x_stride: int, rows: int, weight: Weight, draws: int, tokens: int, peaks: int, runs: int, /
) -> bool: ...
def top_logprobs(
    logits: int, stride: int, rows: int, vocab_size: int, chosen: int, k: int, ids: int, logprobs: int, ranks: int, /
) -> bool: ...
