"""A plugin that does what `data` says, where it says: {"in": METHOD, "do": FAULT}."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from octavo.plugins.io_processor import IOProcessor
from octavo.pooling_params import PoolingParams


def register() -> str:
    return "faulty_plugin.FaultyProcessor"


class FaultyProcessor(IOProcessor[Any, Any]):
    def __init__(self, vllm_config: Any) -> None:
        super().__init__(vllm_config)
        self._data: dict[str, Any] = {}
        self._known: dict[str | None, dict[str, Any]] = {}

    def parse_request(self, request: Any) -> dict[str, Any]:
        data: dict[str, Any] = request["data"] if isinstance(request, dict) else request.data
        do("parse_request", data)
        return data

    def pre_process(self, prompt: dict[str, Any], request_id: str | None = None, **kwargs: Any) -> Any:
        self._data = self._known[request_id] = prompt
        wrong = do("pre_process", prompt)
        return wrong if wrong is not None else prompt.get("prompts", ["one", "two"])

    async def pre_process_async(self, prompt: dict[str, Any], request_id: str | None = None, **kwargs: Any) -> Any:
        if prompt.get("in") == "pre_process_async" and prompt["do"] == "hang":
            await asyncio.sleep(1000)
        await asyncio.sleep(prompt.get("wait", 0))
        return self.pre_process(prompt, request_id, **kwargs)

    def validate_or_generate_params(self, params: Any = None) -> Any:
        wrong = do("params", self._data)
        return wrong if wrong is not None else params or PoolingParams(task="embed")

    def post_process(self, model_output: Sequence[Any], request_id: str | None = None, **kwargs: Any) -> Any:
        data = self._known.pop(request_id)
        wrong = do("post_process", data)
        return wrong if wrong is not None else {"count": len(model_output), "pid": os.getpid(), "known": len(self._known)}

    def forget(self, request_id: str | None) -> None:
        self._known.pop(request_id, None)

    def output_to_response(self, plugin_output: Any) -> Any:
        from octavo.plugins.messages import IOProcessorResponse

        return plugin_output if plugin_output == 5 else IOProcessorResponse(data=plugin_output)


def do(method: str, data: dict[str, Any]) -> Any:
    """The fault that the data ask for here; what the method is to return instead, or None."""
    if data.get("in") != method:
        return None
    fault = data["do"]
    if fault == "hang":
        while True:
            time.sleep(0.01)
    if fault == "raise":
        raise RuntimeError("a fault that was asked for")
    if fault == "refuse":
        raise ValueError("the data are refused")
    if fault == "exit":
        sys.exit(3)
    if fault == "die":
        os._exit(3)
    if fault == "memory":
        held = [bytearray(1 << 26) for _ in range(1 << 10)]
        return len(held)
    if fault == "unserializable":
        return object()
    if fault == "run a loop":
        return asyncio.run(asyncio.sleep(0, ["three", "four", "five"]))
    if fault == "nest":
        return [{"prompt_token_ids": [1], "multi_modal_data": {"image": {"a": 1, "b": 2}}}]
    if fault == "many":
        return ["one"] * 1000
    return 5  # of a wrong type everywhere
