"""Plugins of every generation run as their authors expect: constructor, order of calls, ids, parameters, answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from engines import FakeEngine, ask, body, processors

from octavo.errors import PluginInputError, ValidationError
from octavo.params import SamplingParams
from octavo.plugins.messages import IOProcessorRequest
from octavo.pooling_params import PoolingParams

pytestmark = pytest.mark.usefixtures("packages")

both = pytest.mark.parametrize("workers", [0, 1], ids=["thread", "process"])


@both
def test_the_documents_interface_online(workers: int) -> None:
    engine = FakeEngine()
    with processors("document", workers=workers, hf_config={"hidden_size": 48}) as made:
        answer = body(asyncio.run(ask(made, {"texts": ["one", "four", "eleven"]}, engine)))
    assert answer["request_id"] == "pooling-1"
    assert answer["created_at"] > 1_700_000_000
    data = answer["data"]
    assert data["rows"] == [[3.0, 0.5], [4.0, 0.5], [6.0, 0.5]], "in the order of the prompts, whatever order they finish in"
    before = ["parse_request", "pre_process_async", "pre_process", *["validate_or_generate_params"] * 3]
    assert data["calls"] == [*before, "post_process_async", "post_process"]
    assert (data["hidden"], data["id"], data["answered"]) == (48, "pooling-1", True)
    assert [request_id for request_id, _, _ in engine.asked] == ["pooling-1-0", "pooling-1-1", "pooling-1-2"]
    assert all(params.task == "embed" for _, _, params in engine.asked)


@both
def test_the_documents_interface_offline(workers: int) -> None:
    with processors("document", workers=workers) as made:
        request = IOProcessorRequest(data={"texts": ["one"]})
        output = asyncio.run(made.run(FakeEngine(), request, "7", online=False, alone=True)).output
    assert output["calls"] == ["parse_request", "pre_process", "validate_or_generate_params", "post_process"]
    assert output["id"] is None
    assert "answered" not in output


@pytest.mark.parametrize(("workers", "online"), [(0, True), (0, False), (1, True)])
def test_a_plugin_of_vllms_first_interface(workers: int, online: bool, tiny_model_dir: Path) -> None:
    engine = FakeEngine()
    with processors("first", workers=workers, path=str(tiny_model_dir)) as made:
        request = IOProcessorRequest(data={"text": "hello there", "scale": 2.0})
        answer = asyncio.run(made.run(engine, request, "pooling-9", online=online, alone=not online))
    ((_, prompt, params),) = engine.asked
    ids = prompt["prompt_token_ids"]
    assert len(ids) > 1
    assert params.extra_kwargs == {"scale": 2.0}, "stashed between pre_process and the parameters"
    assert (body(answer)["data"] if online else answer.output) == [2.0 * len(ids), 1.0]


def test_requests_at_a_time_do_not_take_each_others_stash(tiny_model_dir: Path) -> None:
    async def many() -> list[float]:
        scales = [float(scale) for scale in range(1, 33)]
        answers = await asyncio.gather(
            *(ask(made, {"text": "hello", "scale": scale}, FakeEngine(), f"pooling-{scale}") for scale in scales)
        )
        return [body(answer)["data"][1] / scale for answer, scale in zip(answers, scales, strict=True)]

    with processors("first", path=str(tiny_model_dir)) as made:
        assert asyncio.run(many()) == [0.5] * 32


def test_a_plugin_of_the_transition() -> None:
    engine = FakeEngine()
    with processors("transition") as made:
        answer = body(asyncio.run(ask(made, {"input": ["ab", "c"]}, engine, params=PoolingParams(dimensions=2))))
    assert answer["data"]["usage"] == {"prompt_tokens": 3, "total_tokens": 3, "completion_tokens": 0}
    assert answer["data"]["data"] == [2, 2]
    assert [(params.task, params.dimensions) for _, _, params in engine.asked] == [("embed", 2)] * 2


def test_a_plugin_of_vllms_latest_interface(tiny_model_dir: Path) -> None:
    with processors("latest", path=str(tiny_model_dir)) as made:
        answer, refused = asyncio.run(_both(ask(made, "hello there"), ask(made, 5, request_id="pooling-2")))
    data = body(answer)["data"]
    assert data["version"] == "0.32.0"
    assert data["row"] == [data["tokens"], 0.5]
    assert isinstance(refused, ValidationError)
    assert (str(refused), refused.parameter) == ("data must be a text", "data")


async def _both(*requests: Any) -> list[Any]:
    return await asyncio.gather(*requests, return_exceptions=True)


def test_the_requests_parameters_reach_the_model() -> None:
    engine = FakeEngine()
    with processors("document") as made:
        asyncio.run(ask(made, {"texts": ["a"]}, engine, params=PoolingParams(task="token_embed", dimensions=3)))
    ((_, _, params),) = engine.asked
    assert (params.task, params.dimensions) == ("token_embed", 3)


@both
def test_generation(workers: int) -> None:
    engine = FakeEngine(tasks=())
    with processors("generating", workers=workers) as made:
        given = SamplingParams(temperature=0.5, seed=7)
        answer = body(
            asyncio.run(ask(made, {"topics": ["abcdef", "ghijkl"], "most": 3}, engine, task="generate", params=given))
        )
    assert answer["data"] == {"answers": ["abc", "ghi"]}
    assert [(params.temperature, params.seed, params.max_tokens) for _, _, params in engine.asked] == [(0.5, 7, 3)] * 2
    assert given.max_tokens == 16, "a caller's parameters are not changed"


@pytest.mark.parametrize(
    ("plugin", "data", "place"),
    [
        ("struct", {"boxes": [{"x": 1}, {"x": -2}]}, "data.boxes[1].x"),
        ("struct", {"boxes": [{"x": "1"}]}, "data.boxes[0].x"),
        ("struct", {"boxes": [], "more": 1}, "data"),
        ("struct", {}, "data"),
        ("struct", [], "data"),
        ("generating", {"topics": ["a", 5]}, "data.topics[1]"),
        ("generating", {"topics": [], "most": 99}, "data.most"),
        ("generating", {}, "data.topics"),
    ],
)
@both
def test_typed_data_is_refused_by_its_place(plugin: str, data: object, place: str, workers: int) -> None:
    with processors(plugin, workers=workers) as made, pytest.raises(PluginInputError) as caught:
        asyncio.run(ask(made, data))
    assert caught.value.parameter == place
    assert place in str(caught.value)


@both
def test_schemas_of_typed_plugins(workers: int) -> None:
    with processors("struct", "generating", "document", workers=workers) as made:
        schemas = made.schemas()
    assert schemas["struct"]["input"]["$defs"]["Box"]["properties"]["x"] == {"type": "integer", "minimum": 0}
    assert schemas["generating"]["input"]["properties"]["most"]["maximum"] == 16
    assert "answers" in str(schemas["generating"]["output"])
    assert schemas["document"]["input"]["type"] == "object"


def test_several_plugins_are_chosen_by_name() -> None:
    with processors("document", "struct") as made:
        boxes = ask(made, {"boxes": [{"x": 1}]}, plugin="struct", request_id="pooling-2")
        first, second = asyncio.run(_both(ask(made, {"texts": ["a"]}), boxes))
        assert "texts" in body(first)["data"]
        assert body(second)["data"] == {"total": 1}
        with pytest.raises(ValidationError, match="io_processor must be one of document, struct, got 'strukt'"):
            made.find("strukt")
    with processors() as none, pytest.raises(ValidationError, match="No IOProcessor plugin installed"):
        none.find(None)


def test_many_prompts_wait_for_each_other() -> None:
    """A request of many prompts takes half of the batch at most, and its outputs are in order."""
    engine = FakeEngine()
    with processors("document") as made:
        texts = ["x" * (1 + i) for i in range(100)]
        answer = body(asyncio.run(ask(made, {"texts": texts}, engine)))
    assert [row[0] for row in answer["data"]["rows"]] == list(range(1, 101))
    assert engine.most == 4


def test_an_id_is_one_requests_at_a_time() -> None:
    with processors("document") as made:
        first, second = asyncio.run(_both(ask(made, {"texts": ["a"]}), ask(made, {"texts": ["b"]})))
    assert body(first)["data"]["texts"] == ["a"]
    assert isinstance(second, ValidationError)
    assert (second.parameter, str(second)) == ("request_id", "request_id 'pooling-1' is that of a request under way.")


def test_the_phases_are_timed() -> None:
    with processors("document") as made:
        answer = asyncio.run(ask(made, {"texts": ["a"]}))
        phases = {"queue", "parse", "pre_process", "params", "model", "post_process", "output_to_response"}
        assert set(answer.seconds) == phases
        assert answer.seconds["model"] >= 0.01
        assert answer.server_timing.startswith("queue;dur=")
        families = {family.name: family for family in made.stats.families("octavo:", "tiny")}
        samples = families["octavo:io_processor_phase_seconds"].samples
        assert {sample.labels["phase"] for sample in samples} == phases
        (count,) = families["octavo:io_processor_requests"].samples
        assert (count.labels["plugin"], count.labels["outcome"], count.value) == ("document", "ok", 1)
