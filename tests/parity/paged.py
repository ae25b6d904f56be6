"""Drives a model with a hand-made paged cache, without worker or scheduler."""

from __future__ import annotations

import random
from typing import cast

import torch

from octavo.cache_groups import plan_layout
from octavo.config import EngineArgs, EngineConfig
from octavo.executor.attention import AttentionMetadata
from octavo.executor.kv_cache import allocate_kv_cache
from octavo.executor.loader import load_model
from octavo.executor.models.causal_lm import CausalLM
from octavo.kernels import ops

MAX_LEN = 128
"""Longest sequence of the tests' models."""


def load(path: object, dtype: str = "float32", **engine_args: object) -> CausalLM:
    """The model at `path` on the CPU."""
    if not ops.current():
        ops.use(device="cpu")
    return cast("CausalLM", load_model(engine_config(path, dtype, **engine_args), torch.device("cpu"), lambda _: None))


def engine_config(path: object, dtype: str = "float32", **engine_args: object) -> EngineConfig:
    """Engine configuration for a model on the CPU."""
    return EngineArgs.from_kwargs(model=str(path), dtype=dtype, device="cpu", **engine_args).create_engine_config()


class PagedSequences:
    """Sequences whose keys and values lie in blocks scattered over one pool, with a table for each cache group."""

    def __init__(self, model: CausalLM, dtype: torch.dtype = torch.float32, block_size: int = 8, num_blocks: int = 64) -> None:
        self.model = model
        self.block_size = block_size
        layout = plan_layout(model.cache_specs, block_size, MAX_LEN)
        self.layer_groups = tuple(place.group for place in layout.places)
        self.num_groups = len(layout.groups)
        num_blocks *= self.num_groups
        self.caches = allocate_kv_cache(layout, dtype, num_blocks, torch.device("cpu"))
        # Garbage where nothing has been written: reading it must show.
        for keys, values in self.caches:
            keys.fill_(1e4)
            values.fill_(-1e4)
        self.free = list(range(num_blocks))
        random.Random(0).shuffle(self.free)
        self.blocks: dict[str, list[list[int]]] = {}
        self.lengths: dict[str, int] = {}

    def step(self, work: dict[str, list[int]]) -> dict[str, torch.Tensor]:
        """Compute new tokens of one sequence or several -> logits [tokens, V] of each."""
        starts, positions = [0], []
        for name, ids in work.items():
            length = self.lengths.get(name, 0)
            self._grow(name, length + len(ids))
            positions.append(torch.arange(length, length + len(ids)))
            starts.append(starts[-1] + len(ids))
        hidden = self.model.forward(
            torch.tensor([token for ids in work.values() for token in ids]),
            torch.cat(positions),
            self.caches,
            self._metadata(list(work), starts, positions),
        )
        logits = self.model.compute_logits(hidden)
        return {name: logits[a:b] for name, a, b in zip(work, starts, starts[1:], strict=False)}

    def logits(self, name: str, ids: list[int], chunk: int | None = None) -> torch.Tensor:
        """Logits [len(ids), V] of a sequence computed `chunk` tokens at a time."""
        chunk = chunk or len(ids)
        return torch.cat([self.step({name: ids[at : at + chunk]})[name] for at in range(0, len(ids), chunk)])

    def greedy(self, name: str, prompt: list[int], count: int) -> list[int]:
        """The `count` tokens that follow the prompt."""
        new = [int(self.step({name: prompt})[name][-1].argmax())]
        while len(new) < count:
            new.append(int(self.step({name: new[-1:]})[name][-1].argmax()))
        return new

    def _grow(self, name: str, length: int) -> None:
        for table in self.blocks.setdefault(name, [[] for _ in range(self.num_groups)]):
            while len(table) * self.block_size < length:
                table.append(self.free.pop())
        self.lengths[name] = length

    def _metadata(self, names: list[str], starts: list[int], positions: list[torch.Tensor]) -> AttentionMetadata:
        tables = tuple(self._table([self.blocks[name][group] for name in names]) for group in range(self.num_groups))
        return AttentionMetadata(
            query_starts=torch.tensor(starts, dtype=torch.int32),
            seq_lens=torch.tensor([self.lengths[name] for name in names], dtype=torch.int32),
            encoder_lens=torch.zeros(len(names), dtype=torch.int32),
            block_tables=tables,
            slot_mapping=tuple(self._slots(table, positions) for table in tables),
            layer_groups=self.layer_groups,
        )

    def _table(self, blocks: list[list[int]]) -> torch.Tensor:
        width = max(map(len, blocks))
        return torch.tensor([row + [0] * (width - len(row)) for row in blocks], dtype=torch.int32)

    def _slots(self, table: torch.Tensor, positions: list[torch.Tensor]) -> torch.Tensor:
        blocks = [table[row, where // self.block_size].long() for row, where in enumerate(positions)]
        return torch.cat(blocks) * self.block_size + torch.cat(positions) % self.block_size
