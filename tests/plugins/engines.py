"""An engine for plugins that computes nothing, and the configuration for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np

from octavo.config.structs import EngineConfig, IOProcessorConfig
from octavo.frontend.io_processing.runner import Answer, IOProcessors
from octavo.outputs import CompletionOutput, RequestOutput
from octavo.plugins.messages import IOProcessorRequest
from octavo.plugins.trial import trial_config
from octavo.pooling_outputs import PoolingOutput, PoolingRequestOutput


class FakeEngine:
    """Pools a prompt to its length, or generates its beginning; the later prompts of a request are done first.

    Attributes:
        asked: id, prompt and parameters of what it was asked for.
        running, most: requests at a time, now and at most.
    """

    def __init__(self, tasks: tuple[str, ...] = ("embed", "token_embed")) -> None:
        self.supported_pooling_tasks = tasks
        self.asked: list[tuple[str, Any, Any]] = []
        self.running = self.most = 0

    async def encode(self, prompt: Any, pooling_params: Any, request_id: str, *, priority: int = 0) -> AsyncGenerator[Any]:
        await self._work(request_id, prompt, pooling_params)
        ids = prompt["prompt_token_ids"] if isinstance(prompt, dict) else list(prompt)
        row = np.array([len(ids), 0.5], dtype=np.float32)
        ids = [ord(one) if isinstance(one, str) else one for one in ids]
        yield PoolingRequestOutput(request_id=request_id, outputs=PoolingOutput(row), prompt_token_ids=ids, finished=True)

    async def generate(self, prompt: Any, sampling_params: Any, request_id: str, *, priority: int = 0) -> AsyncGenerator[Any]:
        await self._work(request_id, prompt, sampling_params)
        completion = CompletionOutput(0, prompt[: sampling_params.max_tokens], [1, 2], finish_reason="length")
        yield RequestOutput(request_id, prompt, [1], [completion], finished=True)

    async def _work(self, request_id: str, prompt: Any, params: Any) -> None:
        self.asked.append((request_id, prompt, params))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0.02 / (1 + int(request_id.rpartition("-")[2])))
        finally:
            self.running -= 1


def config_for(*plugins: str, hf_config: dict[str, Any] | None = None, path: str = "trial", **options: Any) -> EngineConfig:
    config = trial_config(hf_config or {})
    model = msgspec.structs.replace(config.model, path=path, tokenizer_path=path, skip_tokenizer_init=path == "trial")
    return msgspec.structs.replace(config, model=model, io_processor=IOProcessorConfig(plugins=plugins, **options))


@contextmanager
def processors(*plugins: str, **options: Any) -> Iterator[IOProcessors]:
    config = config_for(*plugins, **options)
    made = IOProcessors(config)
    made.start(config)
    try:
        yield made
    finally:
        made.close()


async def ask(made: IOProcessors, data: Any, engine: Any = None, request_id: str = "pooling-1", **options: Any) -> Answer:
    """One request online."""
    plugin, task = options.pop("plugin", None), options.pop("task", "plugin")
    request = IOProcessorRequest(data=data, io_processor=plugin, task=task)
    return await made.run(engine or FakeEngine(), request, request_id, **options)


def body(answer: Answer) -> dict[str, Any]:
    return msgspec.json.decode(answer.output)  # type: ignore[no-any-return]
