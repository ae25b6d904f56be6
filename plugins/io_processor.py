"""What an IO Processor plugin is: a class that makes prompts of a request's data, and an answer of the model's outputs.

The interface is that of vLLM's IO Processor plugins, all generations of it: a class overrides the names it knows, and
`octavo.plugins.generations` calls it as its generation was called. A new plugin overrides `pre_process` and `post_process`,
says the types of its input and output (`IOProcessor[Input, Output]`), and is done.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Generic, TypeVar

from octavo.inputs import PromptType
from octavo.outputs import RequestOutput
from octavo.params import SamplingParams
from octavo.plugins import typed
from octavo.plugins.messages import IOProcessorResponse, data_of
from octavo.pooling_outputs import PoolingRequestOutput
from octavo.pooling_params import PoolingParams

IOProcessorInput = TypeVar("IOProcessorInput")
IOProcessorOutput = TypeVar("IOProcessorOutput")

ModelOutput = PoolingRequestOutput[Any] | RequestOutput
"""What the model made of one prompt: the latter with `task: generate`."""


class IOProcessor(ABC, Generic[IOProcessorInput, IOProcessorOutput]):
    """One plugin, made once when the engine starts (once in each worker process) and used for every request.

    The order of calls for a request: `parse_request` (or `parse_data`), `pre_process`, the method for parameters once for each
    prompt, the model, `post_process`, and for HTTP `output_to_response`. The methods of one request run in one thread, and no
    other request's synchronous method runs between those before the model.

    An error of a client's is a ValueError or TypeError raised before the model: its words are the answer, with status 400.
    Whatever else is raised is answered with 500, and other requests go on.

    Args:
        vllm_config: the configuration with vLLM's names, read only (`octavo.plugins.config_view`).
        renderer: has `get_tokenizer()`.
    """

    def __init__(self, vllm_config: Any, renderer: Any = None) -> None:  # noqa: ARG002  (later generations hand it on)
        self.vllm_config = vllm_config

    def parse_request(self, request: Any) -> IOProcessorInput:
        """The input that a request stands for; the default hands its `data` to `parse_data`.

        Args:
            request: an `IOProcessorRequest`, or offline the dict `{"data": ...}`.

        Raises:
            ValueError: the data is not what it should be.
        """
        return self.parse_data(data_of(request))

    def parse_data(self, data: Any) -> IOProcessorInput:
        """The input that `data` stands for; the default makes it the class's declared type.

        Raises:
            PluginInputError: the data does not fit, with the place in it.
            NotImplementedError: no type is declared.
        """
        declared, _ = typed.declared_types(type(self))
        if declared is None:
            raise NotImplementedError(f"{type(self).__name__} has neither parse_request nor parse_data, and declares no type")
        parsed: IOProcessorInput = typed.decode(data, declared)
        return parsed

    def validate_or_generate_params(
        self, params: SamplingParams | PoolingParams | None = None
    ) -> SamplingParams | PoolingParams:
        """The parameters of one prompt; called after `pre_process`.

        Args:
            params: what the request asks for; None when it asks for nothing.
        """
        return params or PoolingParams()

    def merge_pooling_params(self, params: PoolingParams | None = None) -> PoolingParams:
        """`validate_or_generate_params` of later generations, for pooling."""
        return params or PoolingParams(task="plugin")

    def merge_sampling_params(self, params: SamplingParams | None = None) -> SamplingParams:
        """`validate_or_generate_params` of later generations, for `task: generate`."""
        return params or SamplingParams()

    @abstractmethod
    def pre_process(
        self, prompt: IOProcessorInput, request_id: str | None = None, **kwargs: Any
    ) -> PromptType | Sequence[PromptType]:
        """The prompts of one request.

        Args:
            prompt: what `parse_request` made.
            request_id: None offline.
            kwargs: nothing today.
        """
        raise NotImplementedError

    async def pre_process_async(
        self, prompt: IOProcessorInput, request_id: str | None = None, **kwargs: Any
    ) -> PromptType | Sequence[PromptType]:
        """Called online instead of `pre_process` where it is overridden; other requests' methods run while it waits."""
        return self.pre_process(prompt, request_id, **kwargs)

    @abstractmethod
    def post_process(
        self, model_output: Sequence[ModelOutput], request_id: str | None = None, **kwargs: Any
    ) -> IOProcessorOutput:
        """The plugin's output.

        Args:
            model_output: one for each prompt, in the order of the prompts.
            request_id: as `pre_process` got it.
            kwargs: nothing today.
        """
        raise NotImplementedError

    async def post_process_async(
        self, model_output: AsyncGenerator[tuple[int, ModelOutput]], request_id: str | None = None, **kwargs: Any
    ) -> IOProcessorOutput:
        """Called online instead of `post_process` where it is overridden.

        Args:
            model_output: index of the prompt and its output, in the order in which the model finished them.
            request_id: as `pre_process` got it.
            kwargs: nothing today.
        """
        pairs = [pair async for pair in model_output]
        outputs = [output for _, output in sorted(pairs, key=lambda pair: pair[0])]
        return self.post_process(outputs, request_id, **kwargs)

    def forget(self, request_id: str | None) -> None:
        """Let go of what is remembered of a request: it has failed, or its client has left. It may never have been known."""

    def output_to_response(self, plugin_output: IOProcessorOutput) -> IOProcessorResponse[Any]:
        """The HTTP answer; its `data` must be JSON, or something that has a JSON form (pydantic, msgspec, arrays)."""
        return IOProcessorResponse(data=plugin_output)


def overrides(cls: type, name: str) -> bool:
    """Whether a plugin's class has its own method of that name."""
    return getattr(cls, name, None) is not getattr(IOProcessor, name)
