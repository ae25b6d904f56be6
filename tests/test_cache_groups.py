"""How layers are dealt out to groups, and how many blocks a sequence then holds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.cache_groups import BlockDemand, CacheSpec, plan_layout, specs_of_windows

FULL = CacheSpec("full", 4, 16)
LATENT = CacheSpec("latent", 1, 36)
CROSS = CacheSpec("cross", 4, 16, max_encoder_tokens=50)
BLOCK = 8


def gemma3(num_layers: int, window: int) -> list[CacheSpec]:
    """Five local layers to each global one."""
    return specs_of_windows(4, 256, [window if (i + 1) % 6 else 0 for i in range(num_layers)])


def test_layers_of_one_kind_are_one_group_with_a_plane_for_each_vector() -> None:
    layout = plan_layout([FULL] * 3, BLOCK, 100)
    assert [group.layers for group in layout.groups] == [(0, 1, 2)]
    assert [place.vectors for place in layout.places] == [((0, 0), (1, 0)), ((2, 0), (3, 0)), ((4, 0), (5, 0))]
    assert layout.numbers_per_block == 3 * 2 * 64 * BLOCK
    assert layout.unused_share(0) == 0


def test_local_layers_become_several_groups_as_large_as_the_global_one() -> None:
    layout = plan_layout(gemma3(26, 512), 32, 8192)
    assert [len(group.layers) for group in layout.groups] == [3, 4, 4, 3, 4, 4, 4]
    assert [group.spec.window for group in layout.groups] == [512] * 6 + [0]
    assert layout.groups[6].layers == (5, 11, 17, 23)
    assert layout.num_planes == 8
    assert [layout.unused_share(group) for group in (0, 1, 6)] == [0.25, 0, 0]


def test_a_window_that_covers_every_sequence_is_none() -> None:
    layout = plan_layout(gemma3(12, 4096), 32, 4096)
    assert [group.spec.kind for group in layout.groups] == ["full"]


def test_narrow_vectors_lie_behind_each_other() -> None:
    layout = plan_layout([FULL, LATENT, LATENT, LATENT], BLOCK, 100)
    assert [group.layers for group in layout.groups] == [(0,), (1, 2, 3)]
    assert layout.num_planes == 1
    assert layout.places[0].vectors == ((0, 0), (0, 64 * BLOCK))
    assert [layout.places[layer].vectors for layer in (1, 2, 3)] == [((0, 0),), ((0, 36 * BLOCK),), ((0, 72 * BLOCK),)]


def test_a_model_without_caches_has_no_groups_and_needs_no_blocks() -> None:
    layout = plan_layout([], BLOCK, 100)
    demand = BlockDemand(layout.groups, BLOCK)
    assert (layout.groups, layout.numbers_per_block) == ((), 0)
    assert (demand.most(100, 10), demand.longest(0, 10, 100)) == (0, 100)


def test_capacity_counts_tokens_of_long_sequences() -> None:
    whole = BlockDemand(plan_layout([FULL], BLOCK, 100).groups, BLOCK)
    assert whole.capacity(30, 100) == 30 * BLOCK
    local = BlockDemand(plan_layout([FULL, CacheSpec("window", 4, 16, 16)], BLOCK, 100).groups, BLOCK)
    assert local.capacity(64, 104) == 64 * 104 // (13 + 3), "13 blocks and 3 blocks for each sequence"
    assert BlockDemand((), BLOCK).capacity(0, 100) == 0


def test_an_encoders_length_counts_not_the_sequences() -> None:
    demand = BlockDemand(plan_layout([FULL, CROSS], BLOCK, 100).groups, BLOCK)
    assert [demand.most(tokens, 4) for tokens in (1, 8, 9)] == [8, 8, 9]
    assert demand.longest(7, 4, 100) == 0


@pytest.mark.parametrize(("chunk", "most"), [(1, 4 + 3), (8, 4 + 3), (9, 4 + 4), (100, 4 + 4)])
def test_a_window_holds_its_tokens_and_those_of_a_step(chunk: int, most: int) -> None:
    groups = plan_layout([FULL, CacheSpec("window", 4, 16, 10)], BLOCK, 100).groups
    assert BlockDemand(groups, BLOCK).most(32, chunk) == most


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        ("full", {"window": 3}, "window"),
        ("window", {}, "window"),
        ("cross", {}, "max_encoder_tokens"),
        ("full", {"head_dim": 0}, "head_dim"),
    ],
)
def test_specs_that_make_no_sense_are_refused(kind: str, fields: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        CacheSpec(kind, **{"num_kv_heads": 1, "head_dim": 4, **fields})  # type: ignore[arg-type]


_SPECS = st.one_of(
    st.sampled_from([FULL, LATENT, CROSS]), st.builds(lambda w, h: CacheSpec("window", h, 16, w), st.integers(1, 40), st.integers(1, 4))
)  # fmt: skip


@given(st.lists(_SPECS, min_size=1, max_size=20), st.integers(1, 64))
def test_every_layer_has_a_place_of_its_own(specs: list[CacheSpec], max_model_len: int) -> None:
    layout = plan_layout(specs, BLOCK, max_model_len)
    assert sorted(layer for group in layout.groups for layer in group.layers) == list(range(len(specs)))
    for number, group in enumerate(layout.groups):
        taken: set[tuple[int, int]] = set()
        for layer in group.layers:
            place, spec = layout.places[layer], specs[layer]
            assert (place.group, group.spec.width, len(place.vectors)) == (number, spec.width, spec.num_vectors)
            for plane, start in place.vectors:
                assert plane < layout.num_planes
                assert start + spec.width * BLOCK <= layout.plane_width * BLOCK
                numbers = {(plane, number) for number in range(start, start + spec.width * BLOCK)}
                assert not taken & numbers
                taken |= numbers
        assert 0 <= layout.unused_share(number) < 1


@settings(max_examples=50)
@given(st.lists(_SPECS, max_size=4), st.integers(1, 30), st.integers(0, 60))
def test_the_longest_sequence_is_the_last_that_fits(specs: list[CacheSpec], chunk: int, num_blocks: int) -> None:
    demand = BlockDemand(plan_layout(specs, BLOCK, 100).groups, BLOCK)
    fitting = [tokens for tokens in range(1, 101) if demand.most(tokens, chunk) <= num_blocks]
    assert demand.longest(num_blocks, chunk, 100) == max(fitting, default=0)
