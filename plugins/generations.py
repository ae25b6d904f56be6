"""One way to call a plugin, whichever generation of the interface it was written for.

| generation | input | parameters | answer |
|---|---|---|---|
| first | `parse_request(request)` | `validate_or_generate_params` | `output_to_response` |
| transition | `parse_request(data)` | `merge_pooling_params`, `merge_sampling_params` | either |
| latest | `parse_data(data)` | `merge_pooling_params`, `merge_sampling_params` | the output itself |

A class's generation is which of these names it overrides, each name by itself.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from octavo.errors import OctavoError, PluginError, ValidationError
from octavo.params import SamplingParams
from octavo.plugins import typed
from octavo.plugins.io_processor import IOProcessor, ModelOutput, overrides
from octavo.plugins.json_form import to_json
from octavo.plugins.messages import IOProcessorRequest, IOProcessorResponse
from octavo.plugins.renderer import Renderer
from octavo.pooling_outputs import PoolingOutput, PoolingRequestOutput
from octavo.pooling_params import PoolingParams

Params = SamplingParams | PoolingParams
Outside = Callable[[Callable[[], Any]], Awaitable[Any]]
Schemas = dict[str, dict[str, Any] | None]

logger = logging.getLogger(__name__)


@dataclass
class Prepared:
    """What the model is to do for a request: prompts, with parameters for each."""

    prompts: list[Any]
    params: list[Params]
    seconds: dict[str, float] = field(default_factory=dict)
    """By method."""


@dataclass
class Done:
    """A plugin's output."""

    output: Any
    """Offline the plugin's own object; online the JSON of the whole answer, as bytes."""
    seconds: dict[str, float] = field(default_factory=dict)


class PluginCalls:
    """A plugin's methods in their order, with what they may raise and return.

    Args:
        name: of the plugin, for errors.
        plugin: the object.
        max_prompts: most prompts of one request.
        tensors: it was written for vLLM, where what is pooled is a torch tensor; else it is a numpy array.
    """

    def __init__(self, name: str, plugin: IOProcessor[Any, Any], max_prompts: int = 512, *, tensors: bool = False) -> None:
        self.name = name
        self._tensors = tensors
        if tensors:
            import torch  # noqa: F401  (now, rather than in the first request's time)
        self._plugin = plugin
        self._max_prompts = max_prompts
        given, self._output_type = typed.declared_types(type(plugin))
        self.schemas = {"input": typed.schema(given), "output": typed.schema(self._output_type)}
        """JSON Schemas of what the class declares; None where it declares nothing."""

    async def prepare(
        self,
        request: IOProcessorRequest[Any],
        request_id: str | None,
        params: Params | None,
        *,
        online: bool,
        generate: bool,
        outside: Outside = asyncio.to_thread,
    ) -> Prepared:
        """Everything before the model.

        Args:
            request: its data, and what else the client sent.
            request_id: None offline.
            params: what the request asks for, if it does; not changed.
            online: by HTTP, so that methods that are asynchronous are called.
            generate: the model is to generate, not to pool.
            outside: runs synchronous code where no event loop runs, for it may run one of its own.

        Raises:
            ValidationError: the plugin refuses the request.
            PluginError: the plugin failed.
        """
        seconds: dict[str, float] = {}
        if not online or not self._overrides("pre_process_async"):
            prepared: Prepared = await outside(partial(self._prepare, request, request_id, params, online, generate))
            return prepared
        parsed = await outside(partial(self._parsed, request, online, seconds))
        with self._calling("pre_process", seconds, refuses=True):
            made = await self._plugin.pre_process_async(prompt=parsed, request_id=request_id)
        return self._prepared(made, params, generate, seconds)

    def _prepare(
        self, request: IOProcessorRequest[Any], request_id: str | None, params: Params | None, online: bool, generate: bool
    ) -> Prepared:
        """All of it at a stretch: no other request's methods run between."""
        seconds: dict[str, float] = {}
        parsed = self._parsed(request, online, seconds)
        with self._calling("pre_process", seconds, refuses=True):
            made = self._plugin.pre_process(prompt=parsed, **_id(request_id))
        return self._prepared(made, params, generate, seconds)

    def _prepared(self, made: Any, params: Params | None, generate: bool, seconds: dict[str, float]) -> Prepared:
        prompts = self._checked_prompts(made)
        with self._calling("params", seconds, refuses=True):
            each = [self._merged(params, generate) for _ in prompts]
        return Prepared(prompts, each, seconds)

    async def finish(
        self,
        outputs: Sequence[tuple[int, ModelOutput]],
        request_id: str | None,
        *,
        online: bool,
        answer_id: str = "",
        outside: Outside = asyncio.to_thread,
    ) -> Done:
        """Everything after the model.

        Args:
            outputs: index of the prompt and what the model made of it, in the order in which it did.
            request_id: as `prepare` got it.
            online: make the HTTP answer of it.
            answer_id: the answer's `request_id`, where the plugin gives it none.
            outside: see `prepare`.

        Raises:
            PluginError: the plugin failed, or its output is not what it should be.
        """
        seconds: dict[str, float] = {}
        if self._tensors:
            outputs = [(index, _with_tensor(output)) for index, output in outputs]
        if online and self._overrides("post_process_async"):
            with self._calling("post_process", seconds):
                output = await self._plugin.post_process_async(model_output=_generated(outputs), request_id=request_id)
        else:
            ordered = [output for _, output in sorted(outputs, key=lambda pair: pair[0])]
            output = await outside(partial(self._post_process, ordered, request_id, seconds))
        self._check_output(output)
        if online:
            output = await outside(partial(self._as_json, output, answer_id, seconds))
        return Done(output, seconds)

    def _post_process(self, ordered: list[ModelOutput], request_id: str | None, seconds: dict[str, float]) -> Any:
        with self._calling("post_process", seconds):
            return self._plugin.post_process(model_output=ordered, **_id(request_id))

    def _as_json(self, output: Any, answer_id: str, seconds: dict[str, float]) -> bytes:
        with self._calling("output_to_response", seconds):
            return to_json(self._answer(output, answer_id))

    async def forget(self, request_id: str | None, *, outside: Outside = asyncio.to_thread) -> None:
        """A request has ended otherwise than by `finish`; errors are logged."""
        if self._overrides("forget"):
            await outside(partial(self._forget, request_id))

    def _forget(self, request_id: str | None) -> None:
        try:
            self._plugin.forget(request_id)
        except Exception:
            logger.exception("the IO Processor plugin %s failed in forget", self.name)

    def _parsed(self, request: IOProcessorRequest[Any], online: bool, seconds: dict[str, float]) -> Any:
        with self._calling("parse", seconds, refuses=True):
            return self._parse(request, online)

    def _parse(self, request: IOProcessorRequest[Any], online: bool) -> Any:
        plugin = self._plugin
        if self._overrides("parse_data"):
            return plugin.parse_data(request.data)
        if not self._overrides("parse_request"):
            return IOProcessor.parse_data(plugin, request.data)
        if self._overrides("merge_pooling_params") or self._overrides("merge_sampling_params"):
            return plugin.parse_request(request.data)
        return plugin.parse_request(request if online else _prompt_of(request))

    def _merged(self, given: Params | None, generate: bool) -> Params:
        """One prompt's parameters: the plugin's word, which may be to change what it is given and to return nothing."""
        params = None if given is None else given.clone()
        if self._overrides("merge_sampling_params" if generate else "merge_pooling_params"):
            merge: Any = self._plugin.merge_sampling_params if generate else self._plugin.merge_pooling_params
        elif self._overrides("validate_or_generate_params"):
            merge = self._plugin.validate_or_generate_params
        else:
            merge = self._plugin.merge_sampling_params if generate else self._default_pooling
        result = merge(params) if params is not None else merge()
        result = params if result is None else result
        if not isinstance(result, SamplingParams if generate else (PoolingParams, SamplingParams)):
            allowed = "SamplingParams, for the model generates" if generate else "PoolingParams or SamplingParams"
            raise self._wrong("parameters", f"must be {allowed}, got {type(result).__name__}")
        if isinstance(result, PoolingParams) and result.task is None and self._overrides("merge_pooling_params"):
            result = result.clone()
            result.task = "plugin"  # as that generation has it; what the first one means, depends on the model
        return result

    def _default_pooling(self, params: PoolingParams | None = None) -> PoolingParams:
        """As the base class of the plugin's generation has it: in the first one, no task is named."""
        first = self._overrides("output_to_response") and not self._overrides("parse_data")
        return params or (PoolingParams() if first else PoolingParams(task="plugin"))

    def _checked_prompts(self, made: Any) -> list[Any]:
        prompts = [made] if _is_prompt(made) else made
        if isinstance(prompts, (str, bytes)) or not isinstance(prompts, Sequence):
            raise self._wrong("pre_process", f"must return a prompt or a list of prompts, got {type(made).__name__}")
        if not prompts:
            raise self._wrong("pre_process", "made no prompt")
        if len(prompts) > self._max_prompts:
            raise ValidationError(
                f"the IO Processor plugin {self.name!r} made {len(prompts)} prompts of this request, and "
                f"{self._max_prompts} are allowed (--io-processor-max-prompts).",
                parameter="data",
            )
        for prompt in prompts:
            if not _is_prompt(prompt):
                raise self._wrong(
                    "pre_process", f"made a prompt that is a {type(prompt).__name__}; it must be a text, token ids or a dict"
                )
        return list(prompts)

    def _check_output(self, output: Any) -> None:
        """Hold the output against the type that a typed plugin declares; one that parses by itself declares it for readers."""
        if self._output_type is None or not typed.is_strict(self._output_type) or self._overrides("output_to_response"):
            return
        misfit = typed.fits(output, self._output_type)
        if misfit is not None:
            raise self._wrong("post_process", f"must return {_name(self._output_type)}: {misfit}")

    def _answer(self, output: Any, answer_id: str) -> dict[str, Any]:
        if not self._overrides("output_to_response"):
            response: Any = IOProcessorResponse(data=output)
        else:
            response = self._plugin.output_to_response(output)
        dumped = response if isinstance(response, Mapping) else _fields(response)
        if dumped is None or "data" not in dumped:
            raise self._wrong("output_to_response", f"must return an IOProcessorResponse, got {type(response).__name__}")
        return {**dumped, "request_id": dumped.get("request_id") or answer_id}

    def _overrides(self, name: str) -> bool:
        return overrides(type(self._plugin), name)

    def _wrong(self, method: str, rule: str) -> PluginError:
        return PluginError(
            f"the IO Processor plugin {self.name!r} is at fault: {method} {rule}.", plugin=self.name, method=method
        )

    @contextmanager
    def _calling(self, method: str, seconds: dict[str, float], *, refuses: bool = False) -> Iterator[None]:
        """Time a method, and say of its errors whose they are: with `refuses`, a ValueError or TypeError is the client's."""
        began = time.monotonic()
        try:
            yield
        except OctavoError:
            raise
        except (ValueError, TypeError) as error:
            if refuses:
                raise ValidationError(str(error) or type(error).__name__, parameter="data") from error
            raise self._failed(method, error) from error
        except Exception as error:
            raise self._failed(method, error) from error
        finally:
            seconds[method] = time.monotonic() - began

    def _failed(self, method: str, error: Exception) -> PluginError:
        logger.error("the IO Processor plugin %s failed in %s", self.name, method, exc_info=error)
        text = f"the IO Processor plugin {self.name!r} failed in {method}: {type(error).__name__}: {error}"
        return PluginError(text[:2000], plugin=self.name, method=method)


def make_plugin(cls: type, config: Any, renderer: Renderer) -> Any:
    """An object of a plugin's class; which arguments its constructor takes, depends on its generation.

    For one that must have the renderer the tokenizer is loaded now, rather than in the first request's time.
    """
    second = _second_parameter(cls)
    if second is None:
        return cls(config)
    if second.default is second.empty:
        renderer.load()
    return cls(config, renderer)


def _second_parameter(cls: type) -> inspect.Parameter | None:
    try:
        parameters = list(inspect.signature(cls).parameters.values())
    except (TypeError, ValueError):
        return None
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
    return positional[1] if len(positional) > 1 else None


def _with_tensor(output: ModelOutput) -> ModelOutput:
    if not isinstance(output, PoolingRequestOutput):
        return output
    import torch

    data = output.outputs.data
    tensor = torch.from_numpy(data if data.flags.writeable else data.copy()) if isinstance(data, np.ndarray) else data
    return PoolingRequestOutput.of_task(output, PoolingOutput(tensor))


def _prompt_of(request: IOProcessorRequest[Any]) -> dict[str, Any]:
    """The prompt that an offline request was made of."""
    prompt = {"data": request.data, "data_format": request.data_format}
    return {name: value for name, value in prompt.items() if name == "data" or value is not None}


async def _generated(outputs: Sequence[tuple[int, ModelOutput]]) -> AsyncGenerator[tuple[int, ModelOutput]]:
    for pair in outputs:
        yield pair


def _id(request_id: str | None) -> dict[str, str]:
    """Offline, the argument is left out: a plugin may have another default."""
    return {} if request_id is None else {"request_id": request_id}


def _is_prompt(value: Any) -> bool:
    if isinstance(value, str | Mapping):
        return True
    return isinstance(value, list) and bool(value) and all(isinstance(item, int) for item in value)


def _fields(value: Any) -> dict[str, Any] | None:
    """The fields of a response that is a pydantic model, one of msgspec's, or any object with the three names."""
    dump: Callable[[], dict[str, Any]] | None = getattr(value, "model_dump", None)
    if dump is not None:
        return dump()
    if not hasattr(value, "data"):
        return None
    return {name: getattr(value, name) for name in ("request_id", "created_at", "data") if hasattr(value, name)}


def _name(declared: Any) -> str:
    return getattr(declared, "__name__", str(declared))
