"""As packages for vLLM 0.12 to 0.14 are written: nothing here knows Octavo."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.entrypoints.openai.protocol import IOProcessorRequest, IOProcessorResponse
from vllm.inputs import TokensPrompt
from vllm.inputs.data import PromptType
from vllm.outputs import PoolingRequestOutput
from vllm.plugins.io_processors.interface import IOProcessor, IOProcessorInput, IOProcessorOutput
from vllm.pooling_params import PoolingParams
from vllm.sampling_params import SamplingParams


@dataclass
class TextInput:
    text: str
    scale: float = 1.0


class FirstProcessor(IOProcessor[TextInput, list[float]]):
    """Stashes what the parameters' method needs between the two calls, as plugins in the wild do."""

    def __init__(self, vllm_config: VllmConfig):
        super().__init__(vllm_config)
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(vllm_config.model_config.model, trust_remote_code=True)
        self._lock = threading.Lock()
        self._stashed: dict | None = None
        self._scales: dict[str, float] = {}

    def parse_request(self, request: Any) -> TextInput:
        if hasattr(request, "data"):
            assert isinstance(request, IOProcessorRequest)
            data = request.data
        elif isinstance(request, dict) and "data" in request:
            data = request["data"]
        else:
            raise ValueError(f"Unable to parse {type(request).__name__}")
        if "text" not in data:
            raise ValueError("Request data must contain a 'text' key")
        return TextInput(**data)

    def pre_process(
        self, prompt: IOProcessorInput, request_id: str | None = None, **kwargs
    ) -> PromptType | Sequence[PromptType]:
        with self._lock:
            assert self._stashed is None
            self._stashed = {"scale": prompt.scale}
            self._scales[request_id or "_offline"] = prompt.scale
        return TokensPrompt(prompt_token_ids=self._tokenizer(prompt.text)["input_ids"])

    def validate_or_generate_params(
        self, params: SamplingParams | PoolingParams | None = None
    ) -> SamplingParams | PoolingParams:
        with self._lock:
            assert self._stashed is not None
            extra, self._stashed = self._stashed, None
        if params is not None:
            params.extra_kwargs = extra
            return params
        return PoolingParams(task="embed", extra_kwargs=extra)

    def post_process(
        self, model_output: Sequence[PoolingRequestOutput], request_id: str | None = None, **kwargs
    ) -> IOProcessorOutput:
        with self._lock:
            scale = self._scales.pop(request_id or "_offline")
        return (torch.as_tensor(model_output[0].outputs.data) * scale).tolist()

    def output_to_response(self, plugin_output: IOProcessorOutput) -> IOProcessorResponse:
        return IOProcessorResponse(data=plugin_output)


def register_first() -> str:
    return "vllm_first_plugin.FirstProcessor"
