"""Every name of vLLM's Python API is there, or says in a sentence that it is not."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import vllm_surface as vllm
from fake_core import FakeCoreClient, make_engine

import octavo
from octavo import not_served
from octavo.config import EngineArgs
from octavo.config.foreign_args import FOREIGN_ARGS
from octavo.errors import ConfigError, ValidationError
from octavo.exceptions import VLLMValidationError
from octavo.frontend.async_llm import AsyncLLM
from octavo.frontend.llm import LLM
from octavo.frontend.llm_engine import LLMEngine
from octavo.frontend.tokenizer import Tokenizer
from octavo.outputs import CompletionOutput, RequestMetrics, RequestOutput
from octavo.params import RequestOutputKind, SamplingParams
from octavo.structured_outputs import StructuredOutputsParams

SENTENCE = r"is not supported: [a-z].*[^.]\.$"


@pytest.mark.parametrize("name", vllm.NAMES)
def test_names_of_the_package(name: str) -> None:
    if name not in not_served.NAMES:
        assert getattr(octavo, name) is not None
        assert name in octavo.__all__
        return
    assert name not in octavo.__all__
    for home in ("octavo", "octavo.sampling_params"):
        with pytest.raises(ImportError, match=SENTENCE):
            exec(f"from {home} import {name}")


def test_a_name_of_neither_is_an_ordinary_error() -> None:
    assert not hasattr(octavo, "Nonsense")
    with pytest.raises(ImportError, match="cannot import name 'Nonsense'"):
        exec("from octavo.sampling_params import Nonsense")


def test_errors_carry_parameter_and_value() -> None:
    with pytest.raises(VLLMValidationError) as caught:
        SamplingParams(temperature=-1.0)
    assert isinstance(caught.value, ValueError)
    assert (caught.value.parameter, caught.value.value) == ("temperature", -1.0)


@pytest.mark.parametrize("name", vllm.LLM_ARGUMENTS)
def test_arguments_of_llm(name: str) -> None:
    default = vllm.LLM_ARGUMENTS[name]
    args = EngineArgs.from_kwargs(model="m", **{name: default})
    assert getattr(args, name, default) == default
    if name in vllm.ASKING:
        with pytest.raises(ConfigError, match=r"is not supported: "):
            EngineArgs.from_kwargs(model="m", **{name: vllm.ASKING[name]})
    elif name not in vars(EngineArgs()):
        assert FOREIGN_ARGS[name].only is None, "what is accepted with any value asks for nothing"


def test_unknown_argument_of_llm_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="no_such_argument"):
        LLM("m", no_such_argument=1)


@pytest.mark.parametrize("name", vllm.LLM_METHODS)
def test_methods_of_llm(name: str) -> None:
    method = getattr(LLM, name)
    if name in not_served.LLM_METHODS:
        with pytest.raises(ValidationError, match=f"LLM.{name} {SENTENCE}"):
            method(object.__new__(LLM), "x", key="y")
        return
    assert set(vllm.LLM_METHODS[name].split()) <= set(inspect.signature(method).parameters)
    if name == "chat":
        order = [p.name for p in inspect.signature(method).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
        assert order == vllm.LLM_METHODS[name].split(), "scripts pass them by position"


@pytest.mark.parametrize("name", vllm.ASYNC_LLM_MEMBERS)
def test_members_of_async_llm(name: str) -> None:
    member = getattr(AsyncLLM, name)
    if name in not_served.ASYNC_LLM_METHODS:
        with pytest.raises(ValidationError, match=f"AsyncLLM.{name} {SENTENCE}"):
            member(object.__new__(AsyncLLM), "x", key="y")


@pytest.mark.parametrize("name", vllm.LLM_ENGINE_MEMBERS)
def test_members_of_llm_engine(name: str) -> None:
    member = getattr(LLMEngine, name)
    if name in not_served.LLM_ENGINE_METHODS:
        with pytest.raises(ValidationError, match=f"LLMEngine.{name} {SENTENCE}"):
            member(object.__new__(LLMEngine), "x", key="y")


@pytest.mark.parametrize("name", vllm.GENERATE_ARGUMENTS)
@pytest.mark.parametrize("call", ["generate", "add_request"])
async def test_arguments_of_generate(tokenizer: Tokenizer, name: str, call: str) -> None:
    client = FakeCoreClient(lambda _: [5, 2])
    engine = make_engine(tokenizer, client)

    async def run(**options: Any) -> None:
        params = SamplingParams(max_tokens=2, output_kind=RequestOutputKind.FINAL_ONLY)
        if call == "generate":
            assert [o.finished async for o in engine.generate("Hi", params, "r", **options)] == [True]
        else:
            stream = await engine.add_request("r", "Hi", params, **options)
            assert (await stream.get()).finished

    await run(**{name: 0 if name == "priority" else None})
    if name in not_served.ARGUMENTS:
        with pytest.raises(ValidationError, match=f"{name} {SENTENCE}"):
            await run(**{name: vllm.GENERATE_ARGUMENTS[name]})
    else:
        await run(**{name: vllm.GENERATE_ARGUMENTS[name]})
    with pytest.raises(TypeError, match="no_such_argument"):
        await run(no_such_argument=1)


async def test_a_prompt_in_pieces_is_refused(tokenizer: Tokenizer) -> None:
    async def pieces() -> Any:
        yield "Hi"

    engine = make_engine(tokenizer, FakeCoreClient(lambda _: [5, 2]))
    with pytest.raises(ValidationError, match=r"A prompt must be .* got async_generator"):
        await anext(engine.generate(pieces(), SamplingParams(), "r"))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", vllm.SAMPLING_FIELDS)
def test_fields_of_sampling_params(name: str) -> None:
    default, asking = vllm.SAMPLING_FIELDS[name]
    assert getattr(SamplingParams(), name) == default
    if name in not_served.SAMPLING_FIELDS:
        with pytest.raises(ValidationError, match=f"{name} {SENTENCE}"):
            SamplingParams(**{name: asking})
    elif name == "routed_experts_prompt_start":
        with pytest.raises(ValidationError, match="must be 0"):
            SamplingParams(**{name: asking})
    else:
        asking = StructuredOutputsParams(**asking) if name == "structured_outputs" else asking
        assert getattr(SamplingParams(**{name: asking}), name) == asking


@pytest.mark.parametrize("name", vllm.REMOVED_SAMPLING_FIELDS)
def test_fields_that_are_no_more(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        SamplingParams(**{name: 1})


def test_fields_of_outputs() -> None:
    completion = CompletionOutput(0, "a", [5])
    output = RequestOutput("r", "Hi", [5, 6], [completion], finished=True, num_cached_tokens=1)
    for thing, names in (
        (output, vllm.REQUEST_OUTPUT),
        (completion, vllm.COMPLETION_OUTPUT),
        (RequestMetrics(), vllm.REQUEST_METRICS),
    ):
        assert [name for name in names if not hasattr(thing, name)] == []
    assert output.num_cache_creation_tokens == 1


@pytest.mark.parametrize("name", vllm.PROMPT_KEYS)
async def test_keys_of_prompts(tokenizer: Tokenizer, name: str) -> None:
    engine = make_engine(tokenizer, FakeCoreClient(lambda _: [5, 2]))
    prompt: Any = {"prompt": "Hi", name: vllm.PROMPT_KEYS[name]}
    outputs = engine.generate(prompt, SamplingParams(max_tokens=2), "r")
    if name in not_served.PROMPT_KEYS:
        with pytest.raises(ValidationError, match=f"{name} {SENTENCE}"):
            await anext(outputs)
        outputs = engine.generate({**prompt, name: None}, SamplingParams(max_tokens=2), "r")
    assert (await anext(outputs)).outputs
    await outputs.aclose()


def test_every_sentence_is_one() -> None:
    tables = [
        not_served.NAMES, not_served.LLM_METHODS, not_served.ASYNC_LLM_METHODS, not_served.LLM_ENGINE_METHODS, not_served.ARGUMENTS,
        not_served.SAMPLING_FIELDS,         not_served.PROMPT_KEYS, not_served.ROUTES, not_served.METRICS, {name: arg.why for name, arg in FOREIGN_ARGS.items()},
    ]  # fmt: skip
    for table in tables:
        for name, why in table.items():
            assert len(why) > 10, name
            assert not why.endswith("."), name
