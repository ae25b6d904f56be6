"""The interface as its document has it, written down: every method, with its name, signature and order.

The plugin takes {"texts": [...], "fail": METHOD}, makes a prompt of each text, and answers with what it saw.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from octavo import SamplingParams
from octavo.inputs import PromptType
from octavo.plugins.io_processor import IOProcessor
from octavo.plugins.messages import IOProcessorResponse
from octavo.pooling_outputs import PoolingRequestOutput
from octavo.pooling_params import PoolingParams


def register() -> str:
    return "document_plugin.DocumentProcessor"


class DocumentProcessor(IOProcessor[dict[str, Any], dict[str, Any]]):
    def __init__(self, vllm_config: Any):
        self.vllm_config = vllm_config
        self.calls: list[str] = []
        self.requests: dict[str, dict[str, Any]] = {}

    def pre_process(
        self,
        prompt: dict[str, Any],
        request_id: str | None = None,
        **kwargs,
    ) -> PromptType | Sequence[PromptType]:
        self.calls.append("pre_process")
        self.requests[str(request_id)] = prompt
        return prompt["texts"]

    async def pre_process_async(
        self,
        prompt: dict[str, Any],
        request_id: str | None = None,
        **kwargs,
    ) -> PromptType | Sequence[PromptType]:
        self.calls.append("pre_process_async")
        return self.pre_process(prompt, request_id, **kwargs)

    def post_process(
        self,
        model_output: Sequence[PoolingRequestOutput],
        request_id: str | None = None,
        **kwargs,
    ) -> dict[str, Any]:
        self.calls.append("post_process")
        seen = self.requests.pop(str(request_id))
        rows = [[float(x) for x in output.outputs.data.reshape(-1)] for output in model_output]
        calls, self.calls = self.calls, []
        model = self.vllm_config.model_config
        return {"texts": seen["texts"], "rows": rows, "calls": calls, "hidden": model.hf_config.hidden_size, "id": request_id}

    async def post_process_async(
        self,
        model_output: AsyncGenerator[tuple[int, PoolingRequestOutput]],
        request_id: str | None = None,
        **kwargs,
    ) -> dict[str, Any]:
        self.calls.append("post_process_async")
        sorted_output = sorted([(i, item) async for i, item in model_output], key=lambda output: output[0])
        collected_output = [output[1] for output in sorted_output]
        return self.post_process(collected_output, request_id, **kwargs)

    def parse_request(self, request: Any) -> dict[str, Any]:
        self.calls.append("parse_request")
        data = request["data"] if isinstance(request, dict) else request.data
        if not isinstance(data, dict) or not isinstance(data.get("texts"), list):
            raise ValueError("data.texts must be a list of texts")
        return data

    def validate_or_generate_params(
        self, params: SamplingParams | PoolingParams | None = None
    ) -> SamplingParams | PoolingParams:
        self.calls.append("validate_or_generate_params")
        return params or PoolingParams(task="embed")

    def output_to_response(self, plugin_output: dict[str, Any]) -> IOProcessorResponse:
        return IOProcessorResponse(data={**plugin_output, "answered": True})
