"""As packages for vLLM 0.16 to 0.18 are written: the old name with the new argument, and the new names for parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from vllm.config import VllmConfig
from vllm.entrypoints.openai.engine.protocol import UsageInfo
from vllm.entrypoints.pooling.pooling.protocol import IOProcessorResponse
from vllm.inputs.data import PromptType
from vllm.logger import init_logger
from vllm.outputs import PoolingRequestOutput
from vllm.plugins.io_processors.interface import IOProcessor, IOProcessorInput, IOProcessorOutput
from vllm.pooling_params import PoolingParams
from vllm.renderers import BaseRenderer

logger = init_logger(__name__)


class Texts(BaseModel):
    input: list[str] | str


class Counts(BaseModel):
    request_id: str | None
    data: list[int]
    usage: UsageInfo


class TransitionProcessor(IOProcessor):
    def __init__(self, vllm_config: VllmConfig):
        super().__init__(vllm_config)
        self.renderer: BaseRenderer | None = None

    def merge_pooling_params(self, params: PoolingParams | None = None, request: Any = None) -> PoolingParams:
        if params is None:
            params = PoolingParams()
        params.task = "embed"
        return params

    def parse_request(self, request_data: Any) -> IOProcessorInput:
        if isinstance(request_data, dict):
            return Texts(**request_data)
        raise ValueError("Unable to parse request_data")

    def pre_process(self, prompt: Texts, request_id: str | None = None, **kwargs) -> PromptType | Sequence[PromptType]:
        return prompt.input

    def post_process(
        self, model_output: Sequence[PoolingRequestOutput], request_id: str | None = None, **kwargs
    ) -> IOProcessorOutput:
        sizes = [len(output.prompt_token_ids) for output in model_output]
        usage = UsageInfo(prompt_tokens=sum(sizes), total_tokens=sum(sizes))
        return Counts(request_id=request_id, data=[len(output.outputs.data) for output in model_output], usage=usage)

    def output_to_response(self, plugin_output: IOProcessorOutput) -> IOProcessorResponse:
        return IOProcessorResponse(request_id=plugin_output.request_id, data=plugin_output)


def register_transition() -> str:
    return "vllm_transition_plugin.TransitionProcessor"
