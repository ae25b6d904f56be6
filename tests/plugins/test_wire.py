"""What goes to and from a plugin's process comes out as it went in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from octavo.errors import ConfigError, PluginError, PluginInputError, RequestTimeoutError, ValidationError
from octavo.frontend.io_processing import wire
from octavo.outputs import CompletionOutput, Logprob, RequestMetrics, RequestOutput
from octavo.params import RepetitionDetection, RequestOutputKind, SamplingParams
from octavo.pooling_outputs import PoolingOutput, PoolingRequestOutput
from octavo.pooling_params import PoolingParams

DTYPES = st.sampled_from([np.float16, np.float32, np.float64, np.int8, np.int64, np.uint8, np.bool_, np.complex64])
SHAPES = numpy_strategies.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


def there(value: Any) -> Any:
    frame = wire.encode(wire.DoneReply(1, value, {}))
    message = wire.decode_from_worker(frame[wire.LENGTH.size :])
    assert isinstance(message, wire.DoneReply)
    return message.output


@given(numpy_strategies.arrays(DTYPES, SHAPES))
def test_arrays(array: np.ndarray) -> None:
    made = there({"a": [array, 1]})["a"][0]
    assert (made.dtype, made.shape) == (array.dtype, array.shape)
    assert made.tobytes() == array.tobytes()
    assert made.flags.writeable


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4)])
def test_tensors(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)
    made = there(tensor)
    assert made.dtype == dtype
    assert torch.equal(made, tensor)


@pytest.mark.parametrize("value", [object(), np.array([object()]), {1, 2}.__iter__()])
def test_what_cannot_go(value: Any) -> None:
    with pytest.raises(TypeError):
        wire.encode(wire.DoneReply(1, value, {}))


def test_what_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="bytes are more than go to or from a plugin's process at a time"):
        there("x" * 1001)


@pytest.mark.parametrize(
    "params",
    [
        None,
        PoolingParams(task="embed", dimensions=3, extra_kwargs={"a": [1, {"b": None}]}),
        SamplingParams(
            temperature=0.5, logit_bias={3: 1.5}, stop=["a"], output_kind=RequestOutputKind.FINAL_ONLY,
            repetition_detection=RepetitionDetection(3, 1, 2),
        ),
    ],
)  # fmt: skip
def test_parameters(params: Any) -> None:
    assert wire.params_in(there(wire.params_out(params))) == params


def test_outputs() -> None:
    pooled = PoolingRequestOutput("a-0", PoolingOutput(np.arange(3, dtype=np.float32)), [1, 2], num_cached_tokens=1)
    made: Any = wire.output_in(there(wire.output_out(pooled)))
    assert (made.request_id, made.prompt_token_ids, made.num_cached_tokens, made.finished) == ("a-0", [1, 2], 1, True)
    assert made.outputs.data.tolist() == [0, 1, 2]
    logprobs = [{5: Logprob(-0.5, 1, "x"), 6: Logprob(-1.5, 2)}]
    completion = CompletionOutput(0, "text", [5], -0.5, logprobs, "stop", 7)
    generated = RequestOutput(
        "b", "p", [1], [completion], True, prompt_logprobs=[None, {1: Logprob(-1.0)}], metrics=RequestMetrics(1.0)
    )
    again: Any = wire.output_in(there(wire.output_out(generated)))
    assert again.outputs == [completion]
    assert (again.prompt, again.metrics, again.finished) == ("p", RequestMetrics(1.0), True)
    assert again.prompt_logprobs == [None, {1: Logprob(-1.0)}]


@pytest.mark.parametrize(
    "cls", [ValidationError, PluginInputError, PluginError, RequestTimeoutError, ConfigError, RuntimeError]
)
def test_errors(cls: type[Exception]) -> None:
    error = cls("what is wrong")
    if isinstance(error, ValidationError):
        error.parameter = "data.x"
    again = wire.raised(wire.failed(3, error), "name")
    assert type(again) is (PluginError if cls is RuntimeError else cls)
    assert "what is wrong" in str(again)
    assert getattr(again, "parameter", None) == getattr(error, "parameter", None)
