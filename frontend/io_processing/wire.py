"""What goes between the frontend and a plugin's process: msgpack documents, each behind its length; arrays and tensors as they are."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import numpy as np

from octavo.errors import (
    ConfigError,
    OctavoError,
    PluginError,
    PluginInputError,
    RequestTimeoutError,
    ValidationError,
)
from octavo.outputs import CompletionOutput, RequestMetrics, RequestOutput
from octavo.params import SamplingParams
from octavo.plugins.generations import Params, Schemas
from octavo.plugins.io_processor import ModelOutput
from octavo.plugins.messages import IOProcessorRequest
from octavo.pooling_outputs import PoolingOutput, PoolingRequestOutput
from octavo.pooling_params import PoolingParams

LENGTH = struct.Struct("!Q")
_ARRAY, _TENSOR = 1, 2


class Setup(msgspec.Struct, tag=True):
    """The first word to a process."""

    config: bytes
    """An EngineConfig."""
    plugin: str


class Prepare(msgspec.Struct, tag=True):
    """Do what comes before the model."""

    call: int
    request: IOProcessorRequest[Any]
    request_id: str | None
    params: dict[str, Any] | None
    online: bool
    generate: bool


class Finish(msgspec.Struct, tag=True):
    """Do what comes after the model."""

    call: int
    outputs: list[tuple[int, dict[str, Any]]]
    request_id: str | None
    online: bool
    answer_id: str


class Cancel(msgspec.Struct, tag=True):
    """Nobody waits for a call any more."""

    call: int


class Forget(msgspec.Struct, tag=True):
    """A request has ended otherwise than by `Finish`."""

    request_id: str | None


class Loaded(msgspec.Struct, tag=True):
    """The plugin is there."""

    schemas: Schemas


class Began(msgspec.Struct, tag=True):
    """A call's turn has come."""

    call: int


class PreparedReply(msgspec.Struct, tag=True):
    """What `Prepare` gave."""

    call: int
    prompts: list[Any]
    params: list[dict[str, Any]]
    seconds: dict[str, float]


class DoneReply(msgspec.Struct, tag=True):
    """What `Finish` gave."""

    call: int
    output: Any
    seconds: dict[str, float]


class Failed(msgspec.Struct, tag=True):
    """What a call raised; call 0 is the start."""

    call: int
    kind: str
    """A key of `_KINDS`."""
    message: str
    parameter: str | None = None
    method: str = ""
    last: bool = False
    """The process ends with this word."""


ToWorker = Setup | Prepare | Finish | Cancel | Forget
FromWorker = Loaded | Began | PreparedReply | DoneReply | Failed

_KINDS: dict[str, type[OctavoError]] = {
    "input": PluginInputError,
    "validation": ValidationError,
    "timeout": RequestTimeoutError,
    "config": ConfigError,
    "plugin": PluginError,
}


def failed(call: int, error: BaseException, *, last: bool = False) -> Failed:
    """An error, as its kind and words; one of no kind is the plugin's."""
    kind = next((name for name, cls in _KINDS.items() if isinstance(error, cls)), "plugin")
    text = str(error) if isinstance(error, OctavoError) else f"{type(error).__name__}: {error}"
    return Failed(call, kind, text, getattr(error, "parameter", None), getattr(error, "method", ""), last)


def raised(failure: Failed, plugin: str) -> OctavoError:
    """The error that `failed` was given, as far as anybody asks."""
    cls = _KINDS[failure.kind]
    if issubclass(cls, ValidationError):
        return cls(failure.message, parameter=failure.parameter)
    if cls is PluginError:
        return PluginError(failure.message, plugin=plugin, method=failure.method)
    return cls(failure.message)


def params_out(params: Params | None) -> dict[str, Any] | None:
    """Parameters as plain values; `params_in` makes them again."""
    if params is None:
        return None
    name = "sampling" if isinstance(params, SamplingParams) else "pooling"
    return {name: {field: getattr(params, field) for field in params.__struct_fields__}}


def params_in(wire: dict[str, Any] | None) -> Params | None:
    if wire is None:
        return None
    if "sampling" in wire:
        return msgspec.convert(wire["sampling"], SamplingParams)
    return msgspec.convert(wire["pooling"], PoolingParams)


def output_out(output: ModelOutput) -> dict[str, Any]:
    """A model's output as plain values and arrays; `output_in` makes it again."""
    if isinstance(output, PoolingRequestOutput):
        return {
            "request_id": output.request_id,
            "pooled": output.outputs.data,
            "prompt_token_ids": output.prompt_token_ids,
            "num_cached_tokens": output.num_cached_tokens,
        }
    names = ("request_id", "prompt", "prompt_token_ids", "finished", "num_cached_tokens")
    return {
        **{name: getattr(output, name) for name in names},
        "prompt_logprobs": None if output.prompt_logprobs is None else list(output.prompt_logprobs),
        "metrics": output.metrics,
        "sequences": [_completion_out(one) for one in output.outputs],
    }


def _completion_out(one: CompletionOutput) -> dict[str, Any]:
    fields = {name: getattr(one, name) for name in one.__dataclass_fields__}
    return {**fields, "logprobs": None if one.logprobs is None else list(one.logprobs)}


def output_in(wire: dict[str, Any]) -> ModelOutput:
    if "pooled" in wire:
        return PoolingRequestOutput(outputs=PoolingOutput(wire.pop("pooled")), finished=True, **wire)
    wire["outputs"] = [msgspec.convert(one, CompletionOutput) for one in wire.pop("sequences")]
    wire["metrics"] = msgspec.convert(wire["metrics"], RequestMetrics | None)
    return RequestOutput(**wire)


def encode(message: Any) -> bytes:
    """A message behind its length. Raises: TypeError: something in it is neither plain nor an array."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body


def decode_to_worker(body: bytes) -> ToWorker:
    return _to_worker.decode(body)


def decode_from_worker(body: bytes) -> FromWorker:
    return _from_worker.decode(body)


def _array_out(value: Any) -> msgspec.msgpack.Ext:
    if isinstance(value, np.ndarray | np.generic):
        return msgspec.msgpack.Ext(_ARRAY, _packed(np.asarray(value)))
    if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "numpy"):
        return msgspec.msgpack.Ext(_TENSOR, _packed_tensor(value))
    raise TypeError(f"a {type(value).__name__} cannot go to or from a plugin's process; arrays, tensors and plain values can")


def _packed(array: np.ndarray[Any, Any], dtype: str = "") -> bytes:
    if array.dtype.hasobject:
        raise TypeError("an array of objects cannot go to or from a plugin's process")
    head = msgspec.msgpack.encode((dtype or array.dtype.str, array.shape))
    return LENGTH.pack(len(head)) + head + array.tobytes()


def _packed_tensor(tensor: Any) -> bytes:
    """bfloat16, which numpy has not, goes as the 16-bit integers that it is stored in."""
    import torch

    tensor = tensor.detach().cpu().contiguous()
    name = str(tensor.dtype).removeprefix("torch.")
    return _packed((tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy(), name)


def _array_in(code: int, data: memoryview) -> Any:
    (length,) = LENGTH.unpack(data[: LENGTH.size])
    start = LENGTH.size + length
    dtype, shape = msgspec.msgpack.decode(data[LENGTH.size : start])
    if code == _ARRAY:
        return np.frombuffer(data[start:], dtype=np.dtype(dtype)).reshape(shape).copy()
    import torch

    wanted = getattr(torch, dtype)
    if not shape or 0 in shape:
        flat = torch.frombuffer(bytearray(data[start:]), dtype=wanted) if len(data) > start else torch.empty(0, dtype=wanted)
        return flat.reshape(shape)
    return torch.frombuffer(bytearray(data[start:]), dtype=wanted).reshape(shape)


_encoder = msgspec.msgpack.Encoder(enc_hook=_array_out)
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker, ext_hook=_array_in)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker, ext_hook=_array_in)
