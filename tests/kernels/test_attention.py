"""Paged attention: the reference against torch, native kernels against the reference, and independence of the batch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from kv_layout import laid_out
from tolerances import SINGLE, UNIT, assert_within

import octavo.kernels.cpu as cpu
from octavo.kernels import reference


@dataclass
class Case:
    """Requests as (new tokens, context length), their keys in shuffled blocks between blocks of NaN."""

    requests: list[tuple[int, int]]
    heads: int = 6
    kv_heads: int = 2
    head_dim: int = 64
    block_size: int = 32
    dtype: torch.dtype = torch.float32
    cache_dtype: torch.dtype | None = None
    window: int = 0
    soft_cap: float = 0.0
    full: bool = False
    seed: int = 0
    tensors: list[torch.Tensor] = field(init=False)

    def __post_init__(self) -> None:
        rng = torch.Generator().manual_seed(self.seed)
        blocks = [math.ceil(length / self.block_size) for _, length in self.requests]
        num_blocks = sum(blocks) + 2
        order = (torch.randperm(num_blocks - 1, generator=rng) + 1).tolist()
        tables = torch.zeros(len(blocks), max(blocks) + 1, dtype=torch.int32)
        shape = (num_blocks, self.kv_heads, self.block_size, self.head_dim)
        self.caches = [torch.full(shape, torch.nan, dtype=self.cache_dtype or self.dtype) for _ in range(2)]
        for r, (_, length) in enumerate(self.requests):
            mine = [order.pop() for _ in range(blocks[r])]
            tables[r, : len(mine)] = torch.tensor(mine)
            for position in range(length):
                at = mine[position // self.block_size], slice(None), position % self.block_size
                for cache in self.caches:
                    cache[at] = torch.randn(self.kv_heads, self.head_dim, generator=rng).to(cache.dtype)
        starts = torch.tensor([0, *(n for n, _ in self.requests)]).cumsum(0).int()
        lengths = torch.tensor([length for _, length in self.requests], dtype=torch.int32)
        wide = torch.randn(int(starts[-1]), self.heads * self.head_dim + 24, generator=rng).to(self.dtype)
        self.q = wide[:, 24:].unflatten(1, (self.heads, self.head_dim))
        self.starts, self.lengths, self.tables = starts, lengths, tables

    @property
    def scale(self) -> float:
        return self.head_dim**-0.5

    def run(self, kernels) -> torch.Tensor:
        return kernels.paged_attention(
            self.q,
            *laid_out(kernels, *self.caches, self.dtype),
            self.starts,
            self.lengths,
            self.tables,
            self.scale,
            self.window,
            self.soft_cap,
            self.full,
        )

    def part(self, kernels, request: int, first: int, last: int) -> torch.Tensor:
        """Some of one request's queries alone, as a chunk has them."""
        start, (n, length) = int(self.starts[request]), self.requests[request]
        return kernels.paged_attention(
            self.q[start + first : start + last],
            *laid_out(kernels, *self.caches, self.dtype),
            torch.tensor([0, last - first], dtype=torch.int32),
            torch.tensor([length - n + last], dtype=torch.int32),
            self.tables[request : request + 1],
            self.scale,
            self.window,
            self.soft_cap,
        )


def error(case: Case) -> torch.Tensor:
    """Most that two right answers to a case differ before they are rounded: [T, heads, D].

    An error of a score is one of the weight, as a share; weights and values are then summed. In 16 bits the weights, and the
    queries times the scale, may be rounded as well.
    """
    dims, longest = case.head_dim, int(case.lengths.max())
    keys, values = case.caches
    longest_key = float(keys[~keys.isnan().any(dim=3)].double().norm(dim=-1).max())
    largest_score = case.scale * case.q.double().norm(dim=2, keepdim=True) * longest_key
    coarse = max(UNIT[case.dtype], UNIT[keys.dtype]) if case.dtype != torch.float32 else 0.0
    of_weights = 2 * (dims + 8) * SINGLE * largest_score + 2 * (longest + 8) * SINGLE + 4 * coarse
    case.caches[1] = values.abs()
    averages = case.run(reference).double()
    case.caches[1] = values
    return of_weights * averages


def same(case: Case, actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert_within(actual, expected, error(case))


def dense(case: Case, request: int) -> torch.Tensor:
    """One request's attention by torch's own kernel."""
    n, length = case.requests[request]
    start = int(case.starts[request])
    q = case.q[start : start + n].transpose(0, 1)
    blocks = case.tables[request, : math.ceil(length / case.block_size)].long()
    k, v = (cache[blocks].transpose(0, 1).flatten(1, 2)[:, :length] for cache in case.caches)
    distance = torch.arange(length - n, length).unsqueeze(1) - torch.arange(length)
    mask = torch.ones_like(distance, dtype=torch.bool) if case.full else distance >= 0
    if case.window:
        mask &= distance.abs() < case.window
    return F.scaled_dot_product_attention(q[None], k[None], v[None], mask, scale=case.scale, enable_gqa=True)[0].transpose(0, 1)


MIXED = [(1, 1), (5, 5), (1, 33), (17, 40), (64, 64), (1, 300), (3, 259)]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("window", [0, 1, 7, 40])
@pytest.mark.parametrize("block_size", [1, 4, 16, 32])
def test_is_torchs(kernels, block_size, window, full):
    case = Case(MIXED, block_size=block_size, window=window, full=full)
    same(case, case.run(kernels), torch.cat([dense(case, r) for r in range(len(MIXED))]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("window", "block_size"), [(1, 32), (7, 16), (40, 32), (64, 32)])
def test_blocks_that_have_left_the_window_are_not_read(kernels, dtype, window, block_size):
    """Their columns of the table name block 0, which holds NaN."""
    case = Case([(1, 300), (5, 90), (70, 200), (3, 3)], block_size=block_size, window=window, dtype=dtype)
    expected = case.run(kernels)
    for request, (n, length) in enumerate(case.requests):
        case.tables[request, : max(0, length - n - window + 1) // block_size] = 0
    assert torch.equal(case.run(kernels), expected)


def test_soft_cap_by_hand(kernels):
    case = Case([(1, 3)], heads=1, kv_heads=1, head_dim=4, soft_cap=0.3)
    k, v = (cache[case.tables[0, 0], 0, :3] for cache in case.caches)
    weights = torch.softmax(0.3 * torch.tanh(k @ case.q[0, 0] * case.scale / 0.3), dim=0)
    same(case, case.run(kernels), (weights @ v).view(1, 1, 4))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("cache_dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_types(native, dtype, cache_dtype, full):
    case = Case(MIXED, dtype=dtype, cache_dtype=cache_dtype, soft_cap=20.0, full=full)
    same(case, case.run(native), case.run(reference))


@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim"), [(1, 1, 16), (9, 3, 64), (8, 8, 80), (40, 1, 32), (4, 2, 256), (3, 3, 5), (14, 2, 96)]
)
def test_head_shapes(native, heads, kv_heads, head_dim):
    case = Case([(1, 70), (20, 31)], heads=heads, kv_heads=kv_heads, head_dim=head_dim)
    same(case, case.run(native), case.run(reference))


def test_large_scores_do_not_overflow(native):
    case = Case([(4, 50)], block_size=16)
    case.q.mul_(300.0)
    same(case, case.run(native), case.run(reference))


@pytest.mark.skipif(not cpu.available(), reason="built without native kernels")
@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 90)), min_size=1, max_size=5),
    group=st.integers(1, 5),
    block_size=st.sampled_from([1, 4, 16, 32]),
    window=st.sampled_from([0, 0, 1, 5, 33, 64]),
    soft_cap=st.sampled_from([0.0, 3.0]),
    full=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_batch(requests, group, block_size, window, soft_cap, full, seed):
    shapes = [(new, new + past) for new, past in requests]
    case = Case(
        shapes, heads=2 * group, head_dim=24, block_size=block_size, window=window, soft_cap=soft_cap, full=full, seed=seed
    )
    same(case, case.run(cpu), case.run(reference))


@pytest.mark.skipif(not cpu.available(), reason="built without native kernels")
@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(1, 70), st.integers(0, 300)), min_size=1, max_size=4),
    group=st.integers(1, 18),
    head_dim=st.sampled_from([32, 64, 96]),
    block_size=st.sampled_from([8, 32, 64]),
    window=st.sampled_from([0, 0, 1, 33, 64, 100]),
    full=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_batch_of_halves(requests, group, head_dim, block_size, window, full, seed):
    shapes = [(new, new + past) for new, past in requests]
    sizes = {"heads": 2 * group, "head_dim": head_dim, "block_size": block_size, "window": window}
    case = Case(shapes, **sizes, full=full, seed=seed, dtype=torch.bfloat16)
    same(case, case.run(cpu), case.run(reference))


BORDERS = [(1, 3), (1, 63), (1, 64), (2, 65), (1, 255), (1, 256), (3, 257), (30, 70)]
"""Contexts that end around the places where tiles of keys and splits do; decode steps, and rows enough to share a copy."""


@pytest.mark.parametrize("head_shape", [(1, 32), (2, 64), (3, 64), (4, 128), (7, 128), (8, 96), (3, 80), (1, 24)])
def test_groups_of_heads_at_borders(native, dtype, head_shape):
    """As the reference, and each request alone, query by query, to the bit as in the batch."""
    group, head_dim = head_shape
    case = Case(BORDERS, heads=2 * group, kv_heads=2, head_dim=head_dim, dtype=dtype)
    together = case.run(native)
    same(case, together, case.run(reference))
    for r, (n, _) in enumerate(case.requests):
        mine = together[case.starts[r] : case.starts[r + 1]]
        assert torch.equal(case.part(native, r, 0, n), mine), r
        for i in {0, n // 2, n - 1}:
            assert torch.equal(case.part(native, r, i, i + 1), mine[i : i + 1]), (r, i)


@pytest.mark.parametrize("cache_dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("group", [1, 3, 7])
def test_a_mixed_cache_is_bit_equal_in_chunks(native, cache_dtype, group):
    """Queries of float32 over each type of cache, with a window that begins within a tile."""
    case = Case([(60, 330), (1, 90)], heads=group, kv_heads=1, cache_dtype=cache_dtype, window=150, soft_cap=4.0)
    together = case.run(native)
    same(case, together, case.run(reference))
    for chunk in (1, 2, 17):
        for first in (0, 30, 60 - chunk):
            alone = case.part(native, 0, first, first + chunk)
            assert torch.equal(alone, together[first : first + chunk]), (chunk, first)


def test_a_key_that_is_no_number_stays_with_those_who_see_it(native):
    """Queries before it are as they were."""
    case = Case([(90, 90)], heads=3, kv_heads=1, block_size=32)
    clean = case.run(native)
    case.caches[0][case.tables[0, 2].long(), 0, 80 - 64] = math.nan
    out = case.run(native)
    assert torch.equal(out[:80], clean[:80])
    assert out[80:].isnan().all()


@pytest.mark.parametrize("window", [0, 45])
def test_alone_in_a_batch_and_in_chunks_is_bit_equal(native, dtype, window):
    requests = [(700, 700), (1, 1000), (300, 1400), (1, 3), (37, 37)]
    case = Case(requests, heads=3, kv_heads=1, head_dim=32, dtype=dtype, window=window)
    together = case.run(native)
    for r, (n, _) in enumerate(requests):
        mine = together[case.starts[r] : case.starts[r + 1]]
        for chunk in {n, 1, 13, 256}:
            parts = range(0, n, chunk) if chunk > 1 else (0, n // 2, n - 1)
            for first in parts:
                last = min(first + chunk, n)
                alone = case.part(native, r, first, last)
                assert torch.equal(alone, mine[first:last]), (r, chunk, first)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "block_size", "window", "soft_cap"),
    [
        (2, 2, 64, 32, 0, 0.0),
        (9, 3, 64, 32, 200, 0.0),
        (8, 1, 128, 64, 70, 0.0),
        (5, 1, 96, 128, 0, 5.0),
        (20, 1, 32, 96, 0, 0.0),
        (6, 2, 64, 16, 33, 0.0),
    ],
)
def test_a_decode_step_is_bit_equal_to_its_row_of_a_prefill(native, heads, kv_heads, head_dim, block_size, window, soft_cap):
    case = Case(
        [(230, 300), (1, 20)],
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        block_size=block_size,
        dtype=torch.bfloat16,
        window=window,
        soft_cap=soft_cap,
    )
    case.q[::7].mul_(20.0)
    together = case.run(native)
    for size in (1, 2, 5, 40):
        for first in (0, 101, 185, 186, 190):
            alone = case.part(native, 0, first, first + size)
            assert torch.equal(alone, together[first : first + size]), (size, first)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_threads_do_not_matter(native, dtype):
    case = Case([(1, 1500), (40, 900)], heads=3, kv_heads=1, head_dim=32, dtype=dtype)
    results = []
    for threads in (1, 2, 3):
        native.set_num_threads(threads)
        results.append(case.run(native))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_a_scale_is_positive(native):
    case = Case([(2, 40)])
    for scale in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="must be positive"):
            native.paged_attention(case.q, *case.caches, case.starts, case.lengths, case.tables, scale)


def test_nonsense_is_refused(native):
    for change in ("block", "length", "table"):
        case = Case([(2, 40)])
        if change == "block":
            case.tables[0, 1] = 1000
        elif change == "length":
            case.lengths[0] = 1
        else:
            case.lengths[0] = 4000
        with pytest.raises(IndexError):
            case.run(native)


def test_an_encoders_keys_are_seen_by_all_queries(native, dtype):
    """Cross-attention: more queries than keys, and requests whose encoder gave nothing."""
    case = Case([(40, 3), (1, 300), (7, 1), (5, 32)], head_dim=32, dtype=dtype, full=True)
    same(case, case.run(native), case.run(reference))
    case.lengths[2] = 0
    out = case.run(native)
    assert (out[41:48] == 0).all()
    same(case, out, case.run(reference))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("window", "head_dim", "kv_heads"), [(0, 32, 6), (9, 64, 2), (70, 24, 1)])
def test_without_a_cache(native, rng, dtype, window, head_dim, kv_heads, full):
    lengths = [1, 70, 33, 300, 32]
    starts = torch.tensor([0, *lengths]).cumsum(0).int()
    q = torch.randn(sum(lengths), 6, head_dim, generator=rng).to(dtype)
    k, v = (torch.randn(sum(lengths), kv_heads, head_dim, generator=rng).to(dtype) for _ in range(2))
    expected = reference.attention(q, k, v, starts, head_dim**-0.5, window, 0.0, full)
    actual = native.attention(q, k, v, starts, head_dim**-0.5, window, 0.0, full)
    case = Case([(n, n) for n in lengths], kv_heads=kv_heads, head_dim=head_dim, dtype=dtype, full=full, window=window)
    case.q = q
    for r, n in enumerate(lengths):  # for the tolerance: the same keys and values in a cache
        where = torch.arange(n)
        at = case.tables[r, where // 32].long(), slice(None), where % 32
        case.caches[0][at], case.caches[1][at] = k[starts[r] : starts[r + 1]], v[starts[r] : starts[r + 1]]
    same(case, actual, expected)
    alone = native.attention(
        q[1:71], k[1:71], v[1:71], torch.tensor([0, 70], dtype=torch.int32), head_dim**-0.5, window, 0.0, full
    )
    assert torch.equal(alone, actual[1:71])
