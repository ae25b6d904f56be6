"""The persistent batch and the step layout against a naive model, under random joins, leaves and growth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from fake_model import CPU, spec
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.cache_groups import CacheGroup, CacheSpec
from octavo.executor.attention import AttentionMetadata
from octavo.executor.input_batch import InputBatch
from octavo.executor.step import NewRequest, ints
from octavo.executor.step_layout import StepLayout

ROWS, MAX_LEN, BLOCK = 4, 24, 3
FULL, WINDOW = CacheSpec("full", 1, 8), CacheSpec("window", 1, 8, 5)
CROSS = CacheSpec("cross", 1, 8, max_encoder_tokens=40)
"""Longer than any sequence."""


@dataclass
class Naive:
    """One request as plain lists."""

    tokens: list[int]
    num_prompt: int
    computed: int
    tables: list[list[int]] = field(default_factory=list)
    """Block tables of what keeps everything, of an encoder's output, of a window."""
    num_encoder: int = 0


def groups_of(*specs: CacheSpec) -> tuple[CacheGroup, ...]:
    return tuple(CacheGroup(spec, (layer,)) for layer, spec in enumerate(specs))


def new_request(row: int, tokens: list[int], computed: int = 0, *tables: list[int]) -> NewRequest:
    return NewRequest(row, f"r{row}", tokens, len(tokens), computed, list(tables) or [[]], spec())


def arrange(layout: StepLayout, counts: dict[int, int], grown: Sequence[int] = ()) -> tuple[Any, Any, AttentionMetadata]:
    return layout.arrange(ints(list(counts)), ints(list(counts.values())), grown)


class Machine:
    """Drives batch and layout as the runner does, and the naive requests beside them."""

    def __init__(self, draw: st.DataObject) -> None:
        self.batch = InputBatch(ROWS, MAX_LEN, BLOCK, groups_of(FULL, CROSS, WINDOW))
        self.layout = StepLayout(self.batch, 64, CPU, (2, 0, 1, 2))
        self.requests: dict[int, Naive] = {}
        self.next_block = 0
        self.draw = draw

    def join(self) -> None:
        if len(self.requests) == ROWS:
            return
        tokens = self.draw.draw(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=MAX_LEN - 4))
        naive = Naive(tokens, len(tokens), self.draw.draw(st.integers(0, len(tokens) - 1)))
        columns = st.integers(-(-naive.computed // BLOCK), MAX_LEN // BLOCK)
        naive.num_encoder = self.draw.draw(st.sampled_from([0, 7, 40]))
        naive.tables = [
            self.fresh_blocks(count)
            for count in (self.draw.draw(columns), -(-naive.num_encoder // BLOCK), self.draw.draw(columns))
        ]
        row = self.draw.draw(st.sampled_from([row for row in range(ROWS) if row not in self.requests]))
        request = new_request(row, list(tokens), naive.computed, *map(list, naive.tables))
        request.num_encoder_tokens = naive.num_encoder
        self.batch.add(request)
        self.requests[row] = naive

    def leave(self) -> None:
        if self.requests:
            row = self.draw.draw(st.sampled_from(sorted(self.requests)))
            assert self.batch.remove(row)
            assert not self.batch.remove(row)
            del self.requests[row]

    def step(self) -> None:
        counts, extended = {}, []
        for row, naive in self.requests.items():
            left = len(naive.tokens) - naive.computed
            count = self.draw.draw(st.integers(0, left)) if left > 1 else left
            if count and naive.computed + count <= MAX_LEN:
                counts[row] = count
                columns = -(-(naive.computed + count) // BLOCK)
                fresh = [
                    self.fresh_blocks(max(0, columns - len(table)) if group != 1 else 0)
                    for group, table in enumerate(naive.tables)
                ]
                if any(fresh):
                    naive.tables = [table + new for table, new in zip(naive.tables, fresh, strict=True)]
                    self.batch.append_blocks(row, fresh)
                    extended.append(row)
        if counts:
            self.check(counts, extended)
            self.advance(counts)

    def check(self, counts: dict[int, int], extended: list[int]) -> None:
        ids, positions, attention = arrange(self.layout, counts, extended)
        active = [self.requests[row] for row in counts]
        spans = [range(r.computed, r.computed + n) for r, n in zip(active, counts.values(), strict=True)]
        assert ids.tolist() == [r.tokens[p] for r, span in zip(active, spans, strict=True) for p in span]
        assert positions.tolist() == [p for span in spans for p in span]
        assert attention.layer_groups == (2, 0, 1, 2)
        assert set(attention.slot_mapping[1].tolist()) == {-1}
        for group in (0, 2):
            assert attention.slot_mapping[group].tolist() == [
                r.tables[group][p // BLOCK] * BLOCK + p % BLOCK for r, span in zip(active, spans, strict=True) for p in span
            ]
        assert attention.query_starts.tolist() == np.cumsum([0, *counts.values()]).tolist()
        assert attention.seq_lens.tolist() == [span.stop for span in spans]
        for r, naive, span in zip(range(len(spans)), active, spans, strict=True):
            used = -(-span.stop // BLOCK)
            for group in (0, 2):
                assert attention.block_tables[group][r, :used].tolist() == naive.tables[group][:used]
            assert attention.encoder_lens[r] == naive.num_encoder
            assert attention.block_tables[1][r, : len(naive.tables[1])].tolist() == naive.tables[1]
        assert self.layout.sampling.tolist() == [s.stop == len(r.tokens) for r, s in zip(active, spans, strict=True)]
        assert self.layout.all_sample == all(self.layout.sampling)

    def advance(self, counts: dict[int, int]) -> None:
        rows = self.layout.rows
        self.batch.num_computed[rows] = self.layout.stop
        for i, (row, count) in enumerate(counts.items()):
            naive = self.requests[row]
            naive.computed += count
            if self.layout.sampling[i] and len(naive.tokens) < MAX_LEN:
                naive.tokens.append(1000 + naive.computed)
                self.batch.token_ids[rows[i], self.batch.num_tokens[rows[i]]] = naive.tokens[-1]
                self.batch.num_tokens[rows[i]] += 1

    def fresh_blocks(self, count: int) -> list[int]:
        self.next_block += count
        return list(range(self.next_block - count, self.next_block))


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_layout_equals_naive_model(data: st.DataObject) -> None:
    machine = Machine(data)
    for action in data.draw(st.lists(st.sampled_from(["join", "leave", "step", "step", "step"]), min_size=5, max_size=25)):
        getattr(machine, action)()
        assert {row for row, name in enumerate(machine.batch.names) if name} == set(machine.requests)


def test_a_row_is_taken_over_and_never_shared() -> None:
    batch = InputBatch(2, MAX_LEN, BLOCK, groups_of(FULL))
    batch.add(new_request(1, [1, 2], 0, [5]))
    for row in (2, -1):
        with pytest.raises(ValueError, match=f"in row {row} of 2"):
            batch.add(new_request(row, [4]))
    with pytest.raises(ValueError, match="row 1, which r1 has"):
        batch.add(new_request(1, [4]))
    batch.remove(1)
    batch.add(new_request(1, [4]))
    assert batch.num_blocks[0, 1] == 0
    assert batch.num_tokens[1] == 1
    assert len(batch) == 1


def test_too_long_a_request_changes_nothing() -> None:
    batch = InputBatch(1, MAX_LEN, BLOCK, groups_of(FULL))
    with pytest.raises(ValueError, match="max_model_len 24"):
        batch.add(new_request(0, [1] * (MAX_LEN + 1)))
    with pytest.raises(ValueError, match="blocks"):
        batch.add(new_request(0, [1], 0, [0] * 9))
    with pytest.raises(ValueError, match="tables for 2 cache groups, not 1"):
        batch.add(new_request(0, [1], 0, [0], [1]))
    assert len(batch) == 0
    batch.add(new_request(0, [1]))


@pytest.mark.parametrize(("count", "message"), [(4, "tokens it does not have"), (3, "too few blocks"), (100, "more than max")])
def test_wrong_steps_are_refused(count: int, message: str) -> None:
    batch = InputBatch(2, MAX_LEN, 2, groups_of(FULL, WINDOW))
    layout = StepLayout(batch, 64, CPU, (0, 1))
    batch.add(new_request(0, [7, 8, 9], 0, [0, 1], [2]))
    with pytest.raises(ValueError, match=message):
        arrange(layout, {0: count})
    arrange(layout, {0: 2})
    with pytest.raises(ValueError, match="row 1 is to compute, and nobody has it"):
        arrange(layout, {1: 1})


def test_steady_decode_keeps_what_did_not_change() -> None:
    batch = InputBatch(3, MAX_LEN, BLOCK, groups_of(FULL))
    layout = StepLayout(batch, 64, CPU, (0,))
    for row in range(2):
        batch.add(new_request(row, [1, 2, 3, 4], 3, [row + 20, 9]))
    arrange(layout, {0: 1, 1: 1})
    assert not layout.same_rows
    rows = layout.rows
    arrange(layout, {0: 1, 1: 1})
    assert layout.same_rows
    assert layout.rows is rows
    arrange(layout, {1: 1, 0: 1})
    assert not layout.same_rows
    batch.remove(1)
    batch.add(new_request(1, [5, 6], 1, [4]))
    ids, _, attention = arrange(layout, {1: 1, 0: 1})
    assert not layout.same_rows
    assert ids.tolist() == [6, 4]
    assert attention.block_tables[0][0, 0] == 4


def test_a_model_without_caches_has_no_tables() -> None:
    batch = InputBatch(2, MAX_LEN, BLOCK, ())
    layout = StepLayout(batch, 64, CPU, ())
    batch.add(NewRequest(0, "a", [7, 8, 9], 3, 0, [], spec()))
    ids, _, attention = arrange(layout, {0: 3})
    assert ids.tolist() == [7, 8, 9]
    assert attention.block_tables == attention.slot_mapping == ()
