"""What a model's layers keep of each token, and how layers share block tables.

A block is a page: so many bytes, for `block_size` tokens of the layers of one group. All groups take their blocks from one
pool, so their pages are equally large: the layers of one kind are dealt out over as many groups as it takes to make them so::

    6 local and 1 global layer, a page for one layer each:     6 groups of the local ones, 1 of the global one
    26 local and 26 global layers, a page for 26 layers each:  1 group of either

A page consists of planes, each of which lies in memory of its own and holds one vector per token: a layer's keys, or its
values. Where layers keep vectors of different widths there is one plane, which holds all that a page holds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

CacheKind = Literal["full", "window", "latent", "cross"]

_MOST_GROUPS = 32
"""Over how many groups the layers of one kind are dealt out at most, unless each layer has a group of its own."""
_TOLERATED = 1.1
"""Pages are chosen that make few groups, as long as a sequence holds no more than so many times the least bytes possible."""


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """What one layer keeps.

    Attributes:
        kind: keys and values of all tokens ("full") or of the last `window` ones, one vector of every token ("latent"), or
            keys and values of an encoder's output, written once ("cross").
        num_kv_heads, head_dim: of a key; a latent vector has one head.
        window: keys that a query sees, itself included; only of kind "window".
        max_encoder_tokens: longest output of the encoder; only of kind "cross".
    """

    kind: CacheKind
    num_kv_heads: int
    head_dim: int
    window: int = 0
    max_encoder_tokens: int = 0

    def __post_init__(self) -> None:
        """Raises: ValueError: names the field that does not fit the kind."""
        for name, kind in (("window", "window"), ("max_encoder_tokens", "cross")):
            value = getattr(self, name)
            if (value > 0) != (self.kind == kind) or value < 0:
                raise ValueError(f"{name} of a {self.kind} cache is {value}; it must be positive for a {kind} cache, else 0")
        if self.num_kv_heads < 1 or self.head_dim < 1:
            raise ValueError(f"num_kv_heads and head_dim must be positive, got {self.num_kv_heads} and {self.head_dim}")

    @property
    def num_vectors(self) -> int:
        """Vectors that it keeps of a token."""
        return 1 if self.kind == "latent" else 2

    @property
    def width(self) -> int:
        """Numbers in such a vector."""
        return self.num_kv_heads * self.head_dim

    @property
    def size(self) -> int:
        """Numbers that it keeps of a token."""
        return self.num_vectors * self.width


def specs_of_windows(num_kv_heads: int, head_dim: int, windows: Sequence[int]) -> list[CacheSpec]:
    """Specs of layers that differ in their windows alone; a window of 0 is none."""
    return [CacheSpec("window" if window else "full", num_kv_heads, head_dim, window) for window in windows]


@dataclass(frozen=True, slots=True)
class CacheGroup:
    """Layers that share block tables: what one of them keeps, all do.

    Attributes:
        spec: what each of the layers keeps.
        layers: their indices in the model's `cache_specs`.
    """

    spec: CacheSpec
    layers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LayerPlace:
    """Where a layer's vectors lie in the blocks of its group.

    Attributes:
        group: whose block tables it reads.
        vectors: (plane, first number of the vectors within the plane's part of a block) for keys and values, or the latent one.
    """

    group: int
    vectors: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """The groups of a model's caches, and what a block is made of.

    Attributes:
        block_size: tokens in a block.
        places: of each layer.
        num_planes: planes in a block.
        plane_width: numbers that a plane holds of each token.
    """

    block_size: int
    groups: tuple[CacheGroup, ...]
    places: tuple[LayerPlace, ...]
    num_planes: int
    plane_width: int

    @property
    def numbers_per_block(self) -> int:
        """Numbers in a block, those that no layer uses included."""
        return self.num_planes * self.plane_width * self.block_size

    def unused_share(self, group: int) -> float:
        """Share of the blocks of a group, 0..1, that its layers do not use."""
        used = len(self.groups[group].layers) * self.groups[group].spec.size
        return 1.0 - used / (self.num_planes * self.plane_width)


class BlockDemand:
    """How many blocks one sequence holds over all groups.

    Args:
        draft_margin: tokens that may be taken back from a sequence; a window's blocks are kept so much longer.
    """

    def __init__(self, groups: Sequence[CacheGroup], block_size: int, draft_margin: int = 0) -> None:
        kinds = [group.spec.kind for group in groups]
        self._block_size = block_size
        self._num_full = kinds.count("full") + kinds.count("latent")
        windows = [group.spec.window for group in groups if group.spec.kind == "window"]
        self._windows = [(windows.count(window), window + draft_margin) for window in sorted(set(windows))]
        encoder = [group.spec.max_encoder_tokens for group in groups if group.spec.kind == "cross"]
        self._num_cross = sum(-(-tokens // block_size) for tokens in encoder)

    def most(self, num_tokens: int, chunk: int) -> int:
        """The most blocks that a sequence of `num_tokens` holds at a time, of which a step computes at most `chunk`."""
        size = self._block_size
        blocks = -(-num_tokens // size)
        total = self._num_full * blocks + self._num_cross
        for count, window in self._windows:
            total += count * min(blocks, (window + chunk + size - 3) // size + 1)
        return total

    def capacity(self, num_blocks: int, longest: int) -> int:
        """Tokens that `num_blocks` hold in sequences of `longest` tokens, whole blocks each; 0 without caches."""
        tokens = -(-longest // self._block_size) * self._block_size
        most = self.most(tokens, 1)
        return num_blocks * tokens // most if most else 0

    def longest(self, num_blocks: int, chunk: int, limit: int) -> int:
        """Tokens of the longest sequence, at most `limit`, that `num_blocks` carry; 0 when none does."""
        return bisect_right(range(1, limit + 1), num_blocks, key=lambda tokens: self.most(tokens, chunk))


def plan_layout(specs: Sequence[CacheSpec], block_size: int, max_model_len: int) -> CacheLayout:
    """Deal layers out to groups whose blocks are equally large.

    Few groups are less work in each step, small blocks waste less where layers of several kinds differ in number. Of the
    sizes that hold a sequence of max_model_len in nearly the fewest bytes, the one with the fewest groups is taken.

    Args:
        specs: what each layer keeps; none for a model without caches.
        block_size: tokens in a block.
        max_model_len: longest sequence; a window that covers it is none.
    """
    kinds = _layers_by_spec([_effective(spec, max_model_len) for spec in specs])
    if not kinds:
        return CacheLayout(block_size, (), (), 0, 0)
    plans = [(size, _deal(kinds, size)) for size in _page_sizes(kinds)]
    costs = [size * BlockDemand(groups, block_size).most(max_model_len, 1) for size, groups in plans]
    good = [plan for plan, cost in zip(plans, costs, strict=True) if cost <= _TOLERATED * min(costs)]
    size, groups = min(good, key=lambda plan: (len(plan[1]), plan[0]))
    widths = {spec.width for spec in kinds}
    # Vectors of unequal width lie one behind the other.
    plane_width = widths.pop() if len(widths) == 1 else size
    places = _places(groups, len(specs), block_size, plane_width)
    return CacheLayout(block_size, tuple(groups), places, size // plane_width, plane_width)


def _effective(spec: CacheSpec, max_model_len: int) -> CacheSpec:
    return replace(spec, kind="full", window=0) if spec.window >= max_model_len else spec


def _layers_by_spec(specs: Sequence[CacheSpec]) -> dict[CacheSpec, list[int]]:
    """Indices of the layers of each kind, in the order in which they first appear."""
    kinds: dict[CacheSpec, list[int]] = {}
    for index, spec in enumerate(specs):
        kinds.setdefault(spec, []).append(index)
    return kinds


def _page_sizes(kinds: dict[CacheSpec, list[int]]) -> set[int]:
    """Numbers per token of pages that hold at least one layer of each kind, and that one kind fills with its groups."""
    sizes = {
        spec.size * -(-len(layers) // groups)
        for spec, layers in kinds.items()
        for groups in (*range(1, min(len(layers), _MOST_GROUPS) + 1), len(layers))
    }
    return {size for size in sizes if size >= max(spec.size for spec in kinds)}


def _deal(kinds: dict[CacheSpec, list[int]], size: int) -> list[CacheGroup]:
    """Groups of layers that fit a page, about equally many in each group of a kind."""
    groups = []
    for spec, layers in kinds.items():
        count = -(-len(layers) // (size // spec.size))
        bounds = [len(layers) * i // count for i in range(count + 1)]
        groups += [CacheGroup(spec, tuple(layers[a:b])) for a, b in pairwise(bounds)]
    return groups


def _places(groups: Sequence[CacheGroup], num_layers: int, block_size: int, plane_width: int) -> tuple[LayerPlace, ...]:
    places: list[LayerPlace | None] = [None] * num_layers
    for number, group in enumerate(groups):
        spec = group.spec
        for rank, layer in enumerate(group.layers):
            starts = range(rank * spec.size, (rank + 1) * spec.size, spec.width)
            vectors = tuple((start // plane_width, start % plane_width * block_size) for start in starts)
            places[layer] = LayerPlace(number, vectors)
    return tuple(place for place in places if place is not None)
