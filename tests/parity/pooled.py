"""A pooling model without a core around it: what the real runner gives for token ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from octavo.cache_groups import plan_layout
from octavo.config import EngineArgs
from octavo.executor.kv_cache import allocate_kv_cache
from octavo.executor.loader import load_model
from octavo.executor.model_runner import ModelRunner
from octavo.executor.step import NewRequest, StepInput
from octavo.frontend.pooling import pooling_spec
from octavo.pooling_params import PoolingParams

CPU = torch.device("cpu")
BLOCKS = 8
"""Of each request."""


class PoolingModel:
    """The model at a path, float32 unless said otherwise."""

    def __init__(self, path: Path, **engine_args: Any) -> None:
        given = {"dtype": "float32", "device": "cpu", "skip_tokenizer_init": True, "block_size": 16} | engine_args
        self.config = EngineArgs.from_kwargs(model=str(path), **given).create_engine_config()
        self.model = load_model(self.config, CPU, lambda _: None)
        length = self.config.model.max_model_len
        layout = plan_layout(self.model.cache_specs, self.config.cache.block_size, length)
        caches = allocate_kv_cache(layout, torch.float32, 8 * BLOCKS, CPU)
        self._runner = ModelRunner(self.config, self.model, caches, layout, CPU, length)
        self._groups = len(layout.groups)

    def pooled(
        self, texts: Sequence[list[int]], params: PoolingParams | None = None, chunk: int = 10_000, inputs: Sequence[Any] = ()
    ) -> list[npt.NDArray[np.float32]]:
        """What all texts give in one batch, each `chunk` tokens a step."""
        spec = pooling_spec(self.config.model, params or PoolingParams())
        step = StepInput.empty(0)
        for row, text in enumerate(texts):
            tables = [[BLOCKS * row + block for block in range(BLOCKS)]] * self._groups
            brought = inputs[row] if inputs else {}
            step.joined.append(NewRequest(row, f"r{row}", text, len(text), 0, tables, None, spec, 0, brought))
        left = dict(enumerate(map(len, texts)))
        found: dict[int, npt.NDArray[np.float32]] = {}
        while any(left.values()):
            for row, count in left.items():
                if count:
                    step.rows.append(row)
                    step.num_tokens.append(min(chunk, count))
                    left[row] -= min(chunk, count)
            step.total_num_tokens = sum(step.num_tokens)
            output = self._runner.execute(step)
            assert not output.errors, output.errors
            found |= output.pooled
            step = StepInput.empty(step.step_id + 1)
        step.left.extend(range(len(texts)))
        self._runner.execute(step)
        return [found[row] for row in range(len(texts))]
