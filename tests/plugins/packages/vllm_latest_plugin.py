"""As packages for vLLM 0.32 are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import vllm
from vllm.config import VllmConfig
from vllm.inputs import PromptType
from vllm.outputs import PoolingRequestOutput
from vllm.plugins.io_processors.interface import IOProcessor
from vllm.pooling_params import PoolingParams
from vllm.renderers import BaseRenderer


class LatestProcessor(IOProcessor[str, dict[str, Any]]):
    def __init__(self, vllm_config: VllmConfig, renderer: BaseRenderer):
        super().__init__(vllm_config, renderer)
        self.renderer = renderer

    def parse_data(self, data: object) -> str:
        if not isinstance(data, str):
            raise TypeError("data must be a text")
        return data

    def pre_process(self, prompt: str, request_id: str | None = None, **kwargs) -> PromptType | Sequence[PromptType]:
        return self.renderer.get_tokenizer()(prompt)["input_ids"]

    def merge_pooling_params(self, params: PoolingParams | None = None) -> PoolingParams:
        return params or PoolingParams(task="embed")

    def post_process(
        self, model_output: Sequence[PoolingRequestOutput], request_id: str | None = None, **kwargs
    ) -> dict[str, Any]:
        (output,) = model_output
        return {"version": vllm.__version__, "tokens": len(output.prompt_token_ids), "row": output.outputs.data.clamp(max=100)}


def register_latest() -> str:
    return "vllm_latest_plugin.LatestProcessor"
