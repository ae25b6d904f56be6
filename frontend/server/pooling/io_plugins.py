"""`/pooling` requests with `data`: what a body says, given to the server's IO Processor plugins."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args

from octavo.errors import ValidationError
from octavo.frontend.io_processing.runner import IOProcessors
from octavo.frontend.server.pooling.plugin import PluginAnswer
from octavo.frontend.server.pooling.protocol import PoolingRequest
from octavo.params import SamplingParams
from octavo.plugins.generations import Params
from octavo.plugins.messages import IOProcessorRequest
from octavo.pooling_params import PoolingParams, PoolingTask

if TYPE_CHECKING:
    from octavo.frontend.async_llm import AsyncLLM

_OF_INPUTS = (
    "add_special_tokens", "add_generation_prompt", "continue_final_message", "chat_template", "chat_template_kwargs",
)  # fmt: skip
_ONLY = {"encoding_format": "float", "embed_dtype": "float32", "endianness": "native"}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._:@+=-]")
"""Plugins name files by a request's id, which clients choose."""
_FOR_POOLING = ("use_activation", "truncate_prompt_tokens", "truncation_side")


class IOPlugins:
    """The `PluginPooling` of a server with plugins."""

    def __init__(self, processors: IOProcessors) -> None:
        self._processors = processors

    async def answer(self, engine: AsyncLLM, request: PoolingRequest, request_id: str) -> PluginAnswer:
        """Have a plugin and the model do one request; see `PluginPooling.answer`."""
        generate = request.task == "generate" or not engine.supported_pooling_tasks
        answer = await self._processors.run(
            engine,
            _as_plugins_get_it(request),
            _NOT_IN_NAMES.sub("_", request_id),
            params=sampling_params(request) if generate else pooling_params(request),
            priority=request.priority or 0,
        )
        return PluginAnswer(answer.output, {"Server-Timing": answer.server_timing})


def pooling_params(request: PoolingRequest) -> Params | None:
    """What a request asks of pooling; None when it leaves that to the plugin.

    Raises:
        ValidationError: naming a field.
    """
    if request.sampling_params is not None:
        raise ValidationError('sampling_params go with "task": "generate".', parameter="sampling_params")
    said = {name: getattr(request, name) for name in _FOR_POOLING if getattr(request, name) is not None}
    if request.task not in (None, "plugin"):
        if request.task not in get_args(PoolingTask):
            allowed = ", ".join((*get_args(PoolingTask), "generate"))
            raise ValidationError(f"Unsupported task: {request.task[:100]!r}; with data: {allowed}.", parameter="task")
        said["task"] = request.task
    said |= request.pooling_params or {}
    return _made(PoolingParams, said, "pooling_params") if said else None


def sampling_params(request: PoolingRequest) -> Params | None:
    """What a request asks of generating; None when it leaves that to the plugin.

    Raises:
        ValidationError: naming a field.
    """
    for name in ("pooling_params", *_FOR_POOLING):
        if getattr(request, name) is not None:
            raise ValidationError(f"{name} is for pooling, and this request generates; use sampling_params.", parameter=name)
    given = request.sampling_params
    return None if given is None else _made(SamplingParams, given, "sampling_params")


def _made(cls: type[Any], said: dict[str, Any], field: str) -> Any:
    unknown = sorted(set(said) - set(cls.__struct_fields__))
    if unknown:
        raise ValidationError(f"{field} has no {unknown[0][:100]!r}.", parameter=f"{field}.{unknown[0][:100]}")
    return cls(**said)


def _as_plugins_get_it(body: PoolingRequest) -> IOProcessorRequest[Any]:
    _check_fields(body)
    given = {name: getattr(body, name, None) for name in IOProcessorRequest.__struct_fields__}
    return IOProcessorRequest(
        **{name: value for name, value in given.items() if value is not None and name != "data"}, data=body.data
    )


def _check_fields(body: PoolingRequest) -> None:
    """Nothing that a request says is passed over.

    Raises:
        ValidationError: a field that does nothing for a plugin.
    """
    for name in _OF_INPUTS:
        if getattr(body, name) is not None:
            raise ValidationError(f"{name} is for input and messages; of data, the plugin makes the prompts.", parameter=name)
    for name, only in _ONLY.items():
        if getattr(body, name) not in (None, only):
            raise ValidationError(f"{name} must be {only!r} with data: the answer is the plugin's JSON.", parameter=name)
