"""New plugins, which say types and little else; one generates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

import msgspec
import pydantic

from octavo.params import SamplingParams
from octavo.plugins.io_processor import IOProcessor
from octavo.pooling_params import PoolingParams


class Box(msgspec.Struct):
    x: Annotated[int, msgspec.Meta(ge=0)]


class Boxes(msgspec.Struct, forbid_unknown_fields=True):
    boxes: list[Box]


class Sum(msgspec.Struct):
    total: int


class StructProcessor(IOProcessor[Boxes, Sum]):
    def pre_process(self, prompt: Boxes, request_id: str | None = None, **kwargs: Any) -> list[list[int]]:
        return [[1 + box.x % 7] for box in prompt.boxes]

    def validate_or_generate_params(self, params: PoolingParams | None = None) -> PoolingParams:
        return params or PoolingParams(task="embed")

    def post_process(self, model_output: Sequence[Any], request_id: str | None = None, **kwargs: Any) -> Sum:
        return Sum(total=len(model_output))


class Question(pydantic.BaseModel):
    topics: list[str]
    most: int = pydantic.Field(default=4, ge=1, le=16)


class Reply(TypedDict):
    answers: list[str]


class GenerateProcessor(IOProcessor[Question, Reply]):
    """Takes the request's sampling parameters, and allows at most `most` tokens."""

    def __init__(self, vllm_config: Any) -> None:
        super().__init__(vllm_config)
        self._most = 0

    def pre_process(self, prompt: Question, request_id: str | None = None, **kwargs: Any) -> list[str]:
        self._most = prompt.most
        return prompt.topics

    def merge_sampling_params(self, params: SamplingParams | None = None) -> SamplingParams:
        params = params or SamplingParams(temperature=0.0)
        params.max_tokens = self._most
        return params

    def post_process(self, model_output: Sequence[Any], request_id: str | None = None, **kwargs: Any) -> Reply:
        return {"answers": [output.outputs[0].text for output in model_output]}


def struct() -> str:
    return "typed_plugin.StructProcessor"


def generating() -> type:
    return GenerateProcessor
