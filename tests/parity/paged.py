"""Drives a model with a hand-made paged cache, without worker or scheduler."""

from __future__ import annotations

import random

import torch

from octavo.config import EngineArgs, EngineConfig
from octavo.executor.attention import AttentionMetadata
from octavo.executor.loader import load_model
from octavo.executor.models.decoder import DecoderModel
from octavo.kernels import ops


def load(path: object, dtype: str = "float32", **engine_args: object) -> DecoderModel:
    """The model at `path` on the CPU."""
    if not ops.current():
        ops.use(device="cpu")
    return load_model(engine_config(path, dtype, **engine_args), torch.device("cpu"), lambda _: None)


def engine_config(path: object, dtype: str = "float32", **engine_args: object) -> EngineConfig:
    """Engine configuration for a model on the CPU."""
    return EngineArgs.from_kwargs(model=str(path), dtype=dtype, device="cpu", **engine_args).create_engine_config()


class PagedSequences:
    """Sequences whose keys and values lie in blocks scattered over one cache."""

    def __init__(
        self, model: DecoderModel, dtype: torch.dtype = torch.float32, block_size: int = 8, num_blocks: int = 64
    ) -> None:
        self.model = model
        self.block_size = block_size
        # Garbage where nothing has been written: reading it must show.
        self.caches = [
            (torch.full(shape, 1e4, dtype=dtype), torch.full(shape, -1e4, dtype=dtype))
            for heads, size in model.cache_layers
            for shape in [(num_blocks, heads, block_size, size)]
        ]
        self.free = list(range(num_blocks))
        random.Random(0).shuffle(self.free)
        self.blocks: dict[str, list[int]] = {}
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
        table = self.blocks.setdefault(name, [])
        while len(table) * self.block_size < length:
            table.append(self.free.pop())
        self.lengths[name] = length

    def _metadata(self, names: list[str], starts: list[int], positions: list[torch.Tensor]) -> AttentionMetadata:
        width = max(len(self.blocks[name]) for name in names)
        tables = torch.tensor([self.blocks[name] + [0] * (width - len(self.blocks[name])) for name in names], dtype=torch.int32)
        slots = [
            tables[row, where // self.block_size].long() * self.block_size + where % self.block_size
            for row, where in enumerate(positions)
        ]
        return AttentionMetadata(
            query_starts=torch.tensor(starts, dtype=torch.int32),
            seq_lens=torch.tensor([self.lengths[name] for name in names], dtype=torch.int32),
            block_tables=tables,
            slot_mapping=torch.cat(slots),
            max_query_len=max(len(where) for where in positions),
            max_seq_len=max(self.lengths[name] for name in names),
        )
