"""The pooling endpoints over an engine without a core: forms of inputs and answers, order, failure, leaving."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from fake_engine import FakeEngine, pooled_of_ids
from local_server import LocalServer, ServerMaker

from octavo.errors import ConfigError, EngineDeadError, QueueFullError, RequestFailedError, RequestRefusedError, ValidationError
from octavo.frontend.server.pooling.plugin import PluginAnswer
from octavo.frontend.server.pooling.running import window
from octavo.pooling_config import PoolingConfig
from octavo.pooling_params import PoolingParams
from octavo.sources.text_prompts import read_text_prompts

ALL_TASKS = ("embed", "token_embed", "classify")


@pytest.fixture(autouse=True)
def pooling_engine(engine: FakeEngine) -> None:
    engine.supported_pooling_tasks = ALL_TASKS


def vector(engine: FakeEngine, text: str | list[int], **params: Any) -> list[float]:
    ids = engine.tokenizer.encode(text) if isinstance(text, str) else text
    return pooled_of_ids(ids, PoolingParams(task="embed", **params)).tolist()


async def test_forms_of_input(server: LocalServer) -> None:
    texts: list[tuple[Any, list[Any]]] = [
        ("one two", ["one two"]),
        (["one", "two three"], ["one", "two three"]),
        ([5, 6, 7], [[5, 6, 7]]),
        ([[5, 6], [7]], [[5, 6], [7]]),
    ]
    for value, expected in texts:
        status, answer = await server.post("/v1/embeddings", {"input": value, "model": "tiny"})
        assert status == 200, answer
        assert [one["embedding"] for one in answer["data"]] == [pytest.approx(vector(server.engine, one)) for one in expected]
        assert [one["index"] for one in answer["data"]] == list(range(len(expected)))
        assert {one["object"] for one in answer["data"]} == {"embedding"}
    assert (answer["object"], answer["model"], answer["id"][:5]) == ("list", "tiny", "embd-")
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}


async def test_conversations(server: LocalServer) -> None:
    one = [{"role": "user", "content": "Hi"}]
    for messages, number in ((one, 1), ([one, one * 2], 2)):
        status, answer = await server.post("/v1/embeddings", {"messages": messages})
        assert status == 200, answer
        assert len(answer["data"]) == number
    rendered = [server.engine.tokenizer.decode(call.prompt["prompt_token_ids"]) for call in server.engine.calls]
    assert rendered[0] == rendered[1] == "<|im_start|>user\nHi<|im_end|>\n"
    assert await params_of(server, {"messages": [one, []]}) == "messages[1]"
    assert await params_of(server, {"messages": [one, [{"role": "user", "content": 5}]]}) == "messages[1][0].content"


async def params_of(server: LocalServer, body: dict[str, Any], path: str = "/v1/embeddings") -> str:
    status, answer = await server.post(path, body)
    assert status == 400, answer
    return str(answer["error"]["param"])


async def test_encodings_hold_the_same_numbers(server: LocalServer) -> None:
    body = {"input": ["one", "two"]}
    _, plain = await server.post("/v1/embeddings", body)
    floats = np.array([one["embedding"] for one in plain["data"]], np.float32)
    _, coded = await server.post("/v1/embeddings", {**body, "encoding_format": "base64"})
    assert b"".join(base64.b64decode(one["embedding"]) for one in coded["data"]) == floats.tobytes()
    _, big = await server.post("/v1/embeddings", {**body, "encoding_format": "base64", "endianness": "big"})
    assert np.array_equal(np.frombuffer(base64.b64decode(big["data"][1]["embedding"]), ">f4"), floats[1])
    half = {**body, "encoding_format": "bytes", "embed_dtype": "float16", "endianness": "big"}
    async with server.client.post(server.url + "/v1/embeddings", json=half) as response:
        assert response.content_type == "application/octet-stream"
        data, described = await response.read(), json.loads(response.headers["metadata"])
    assert np.array_equal(np.frombuffer(data, ">f2").reshape(2, -1), floats.astype(np.float16))
    places = [{"embed_dtype": "float16", "endianness": "big", "shape": [16]} for _ in range(2)]
    assert described["data"] == [
        {"index": 0, "start": 0, "end": 32, **places[0]}, {"index": 1, "start": 32, "end": 64, **places[1]},
    ]  # fmt: skip
    assert described["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"]
    async with server.client.post(server.url + "/v1/embeddings", json={**body, "encoding_format": "bytes_only"}) as response:
        assert await response.read() == floats.tobytes()
        assert "metadata" not in response.headers


async def test_truncation(server: LocalServer) -> None:
    long = list(range(5, 25))
    for body, kept in (
        ({"truncate_prompt_tokens": 4}, long[:4]),
        ({"truncate_prompt_tokens": 4, "truncation_side": "left"}, long[-4:]),
        ({"truncate_prompt_tokens": -1}, long),
    ):
        assert (await server.post("/v1/embeddings", {"input": [long], **body}))[0] == 200
        assert server.engine.calls[-1].prompt["prompt_token_ids"] == kept
    text = "one two three " * 2000
    assert (await server.post("/v1/embeddings", {"input": text, "truncate_prompt_tokens": -1}))[0] == 200
    assert len(server.engine.calls[-1].prompt["prompt_token_ids"]) == server.engine.max_model_len
    whole = [[5] * server.engine.max_model_len]
    assert (await server.post("/v1/embeddings", {"input": whole}))[0] == 200, "all of the context is the prompt's"


async def test_a_large_batch_is_tokenized_once_and_goes_through_a_window(server: LocalServer) -> None:
    calls = []
    pool = server.engine.input_processor.texts
    original = pool.encode_all

    async def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(len(args[0]))
        return await original(*args, **kwargs)

    pool.encode_all = counted  # type: ignore[method-assign]
    server.engine.delay = 0.0001
    texts = [f"text {number}" for number in range(2048)]
    status, answer = await server.post("/v1/embeddings", {"input": texts})
    assert status == 200
    assert [one["embedding"] for one in answer["data"]] == [pytest.approx(vector(server.engine, text)) for text in texts]
    assert calls == [2048]
    assert server.engine.most_encoding <= window(server.engine.config.scheduler, 2048, 2048) <= 1024


def test_the_window_fills_three_steps(engine: FakeEngine) -> None:
    limits = msgspec.structs.replace(
        engine.config.scheduler, max_num_seqs=64, max_num_batched_tokens=1000, max_num_queued_reqs=1024
    )
    assert window(limits, 10 * 500, 500) == 2 * 64
    assert window(limits, 100 * 500, 500) == 30
    assert window(limits, 1000 * 500, 500) == 3
    assert window(limits, 5000 * 500, 500) == 3
    small = msgspec.structs.replace(limits, max_num_queued_reqs=10)
    assert window(small, 500, 500) == 64 + 5


async def test_an_item_that_finds_the_queue_full_goes_later(server: LocalServer) -> None:
    """Three places for ten prompts; and none at all is the request's refusal."""
    engine, places = server.engine, 3
    encode = engine.encode

    async def crowded(*args: Any, **kwargs: Any) -> Any:
        if engine.num_encoding >= places:
            raise QueueFullError("full")
        async with aclosing(encode(*args, **kwargs)) as outputs:
            yield await anext(outputs)

    engine.encode = crowded  # type: ignore[method-assign]
    engine.delay = 0.002
    body = {"input": [[number] for number in range(1, 11)]}
    status, answer = await server.post("/v1/embeddings", body)
    assert status == 200, answer
    assert [one["embedding"] for one in answer["data"]] == [pytest.approx(vector(engine, ids)) for ids in body["input"]]
    places = 0
    assert (await server.post("/v1/embeddings", body))[0] == 429


async def test_work_that_is_done_is_not_thrown_away_for_want_of_room(server: LocalServer) -> None:
    """The last prompt finds no room, again and again, when nothing else of its request is left."""
    engine, refusals = server.engine, 3
    encode = engine.encode

    async def crowded(prompt: Any, params: Any, request_id: str, **kwargs: Any) -> Any:
        nonlocal refusals
        if request_id.endswith("-4") and (engine.num_encoding or refusals > 0):
            refusals -= not engine.num_encoding
            raise QueueFullError("full")
        async with aclosing(encode(prompt, params, request_id, **kwargs)) as outputs:
            yield await anext(outputs)

    engine.encode = crowded  # type: ignore[method-assign]
    status, answer = await server.post("/v1/embeddings", {"input": [[number] for number in range(1, 6)]})
    assert (status, refusals) == (200, 0)
    assert answer["data"][4]["embedding"] == pytest.approx(vector(engine, [5]))


@pytest.mark.parametrize(
    ("error", "status", "param", "says"),
    [
        (ValidationError("The prompt is bad.", parameter="prompt"), 400, "input[3]", "input[3]: "),
        (ValidationError("dimensions 5?", parameter="dimensions"), 400, "dimensions", "dimensions"),
        (RequestFailedError("a step failed"), 500, None, "input[3]: "),
        (RequestRefusedError("twice"), 500, None, "input[3]: "),
        (EngineDeadError(), 503, None, "died"),
    ],
)
async def test_one_items_failure_ends_the_request(
    server: LocalServer, error: Exception, status: int, param: str | None, says: str
) -> None:
    server.engine.fail_with, server.engine.fail_after = error, 3
    server.engine.delay = 0.05
    got, answer = await server.post("/v1/embeddings", {"input": ["a", "b", "c", "d", "e"]})
    assert (got, answer["error"]["param"]) == (status, param)
    assert says in answer["error"]["message"]
    assert server.state.in_flight == server.engine.num_encoding == 0


async def test_numbers_that_are_none(server: LocalServer) -> None:
    server.engine.pooled = lambda ids, _: np.float32([1, np.nan if len(ids) == 2 else 0])  # type: ignore[assignment]
    status, answer = await server.post("/v1/embeddings", {"input": [[1], [1, 2]], "encoding_format": "base64"})
    assert (status, answer["error"]["message"][:9]) == (500, "input[1]:")


async def test_a_client_that_leaves_ends_all_of_it(server: LocalServer) -> None:
    server.engine.delay = 30
    task = asyncio.create_task(server.post("/v1/embeddings", {"input": ["a", "b", "c"]}))
    while server.engine.num_encoding < 3:  # noqa: ASYNC110  (nobody announces it)
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with asyncio.timeout(10):
        while server.state.in_flight:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert len(server.engine.aborted) == 3
    assert not server.state._active_ids


async def test_timeouts(make_server: ServerMaker) -> None:
    server = await make_server(request_timeout=0.05)
    server.engine.delay = 30
    status, answer = await server.post("/v1/embeddings", {"input": ["a", "b"]})
    assert (status, answer["error"]["type"]) == (504, "TimeoutError")
    assert (await server.post("/rerank", {"query": "a", "documents": ["b"], "timeout": 0.01}))[0] == 504
    assert server.engine.num_encoding == server.state.in_flight == 0


async def test_keys_guard_every_route(make_server: ServerMaker) -> None:
    server = await make_server(api_key=["k"])
    for path in (
        "/v1/embeddings",
        "/v2/embed",
        "/pooling",
        "/classify",
        "/score",
        "/v1/score",
        "/rerank",
        "/v1/rerank",
        "/v2/rerank",
    ):
        assert (await server.post(path, {}))[0] == 401, path
        assert (await server.post(path, {}, headers={"Authorization": "Bearer k"}))[0] == 400, path


async def test_pooling_tasks(server: LocalServer) -> None:
    _, tokens = await server.post("/pooling", {"input": [5, 6]})
    [one] = tokens["data"]
    assert np.array(one["data"]).shape == (2, 16)
    assert (one["object"], tokens["id"][:8]) == ("pooling", "pooling-")
    _, coded = await server.post("/pooling", {"input": [5, 6], "encoding_format": "base64"})
    assert base64.b64decode(coded["data"][0]["data"]) == np.float32(one["data"]).tobytes()
    _, embedded = await server.post("/pooling", {"input": [5, 6], "task": "embed"})
    assert embedded["data"][0]["data"] == pytest.approx(vector(server.engine, [5, 6]))
    server.engine.supported_pooling_tasks = ("classify",)
    assert len((await server.post("/pooling", {"input": "a"}))[1]["data"][0]["data"]) == 3
    for task, says in (
        ("embed", "Unsupported task: 'embed'"),
        ("score", "use 'classify'"),
        ("encode", "token_embed"),
        ("x", "classify"),
    ):
        status, answer = await server.post("/pooling", {"input": "a", "task": task})
        assert (status, answer["error"]["param"]) == (400, "task")
        assert says in answer["error"]["message"]
    assert (
        "dimensions is currently not supported"
        in (await server.post("/pooling", {"input": "a", "dimensions": 2}))[1]["error"]["message"]
    )


async def test_an_answer_of_too_many_numbers(server: LocalServer) -> None:
    """64 for each of 160,000 tokens; the same texts as a vector each are little."""
    body = {"input": [[5] * 1000] * 160}
    assert await params_of(server, body, "/pooling") == "input"
    assert not server.engine.calls
    assert (await server.post("/v1/embeddings", body))[0] == 200


async def test_plugins(server: LocalServer) -> None:
    status, answer = await server.post("/pooling", {"data": None})
    assert (status, answer["error"]["message"][:32]) == (400, "No IOProcessor plugin installed.")

    async def plugin(engine: Any, request: Any, request_id: str) -> PluginAnswer:
        assert engine is server.engine
        return PluginAnswer(json.dumps([request.data, request.task, request_id]).encode(), {"Server-Timing": "a"})

    server.state.plugins = SimpleNamespace(answer=plugin)  # type: ignore[assignment]
    for data in ({"a": [1]}, None, "x"):
        status, answer = await server.post("/pooling", {"data": data, "task": "plugin", "request_id": "r"})
        assert (status, answer) == (200, [data, "plugin", "pooling-r"])
    assert await params_of(server, {"data": 1, "input": "a"}, "/pooling") == "data"
    server.engine.supported_pooling_tasks = ()
    assert (await server.post("/pooling", {"data": 1}))[0] == 200, "a plugin may let a model generate"
    assert (await server.post("/pooling", {"input": "a"}))[0] == 501


async def test_classification(server: LocalServer) -> None:
    server.engine.config.model.hf_config["id2label"] = {"0": "cat", "1": "dog", "2": "owl"}
    status, answer = await server.post("/classify", {"input": ["one", "two"], "use_activation": False})
    assert status == 200, answer
    for one in answer["data"]:
        assert one["num_classes"] == len(one["probs"]) == 3
        assert one["label"] == ["cat", "dog", "owl"][int(np.argmax(one["probs"]))]
    assert server.engine.calls[-1].params == PoolingParams(task="classify", use_activation=False)


def set_classes(engine: FakeEngine, number: int) -> None:
    pooling = PoolingConfig(task="classify", kinds=("cls",), num_labels=number)
    model = msgspec.structs.replace(engine.config.model, pooling=pooling)
    engine.config = msgspec.structs.replace(engine.config, model=model)


PAIRS = [
    ({"queries": "a", "documents": "b"}, 1),
    ({"queries": "a", "items": ["b", "c"]}, 2),
    ({"data_1": ["a", "b"], "data_2": ["c", "d"]}, 2),
    ({"text_1": {"text": "a"}, "text_2": [{"content": [{"type": "text", "text": "b"}]}]}, 1),
]


@pytest.mark.parametrize(("body", "number"), PAIRS)
async def test_scores_are_cosines_of_an_embedding_model(server: LocalServer, body: dict[str, Any], number: int) -> None:
    status, answer = await server.post("/v1/score", body)
    assert status == 200, answer
    assert [one["index"] for one in answer["data"]] == list(range(number))
    a, b = (np.array(vector(server.engine, text)) for text in ("a", "c" if "data_1" in body else "b"))
    assert answer["data"][0]["score"] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-5)
    assert answer["usage"]["prompt_tokens"] == len(server.engine.calls)


async def test_a_cross_encoder_reads_pairs(server: LocalServer) -> None:
    engine = server.engine
    engine.supported_pooling_tasks = ("classify",)
    set_classes(engine, 1)
    engine.config.model.hf_config["type_vocab_size"] = 2
    engine.pooled = lambda ids, _: np.float32([len(ids) / 100])  # type: ignore[assignment]
    status, answer = await server.post("/score", {"queries": "one two", "documents": ["three", "four five six seven"]})
    assert status == 200, answer
    encode = engine.tokenizer.encode
    expected = [encode("one two") + encode(text) for text in ("three", "four five six seven")]
    assert [call.prompt["prompt_token_ids"] for call in engine.calls] == expected
    assert [one["score"] for one in answer["data"]] == [len(ids) / 100 for ids in expected]
    assert all(len(call.prompt["token_type_ids"]) == len(call.prompt["prompt_token_ids"]) for call in engine.calls)
    engine.calls.clear()
    limits = {"max_tokens_per_query": 1, "max_tokens_per_doc": 2}
    assert (await server.post("/score", {"queries": "one two", "documents": "four five six", **limits}))[0] == 200
    assert engine.calls[0].prompt["prompt_token_ids"] == encode("one two")[:1] + encode("four five six")[:2]
    engine.config.model.hf_config["type_vocab_size"] = 1
    assert (await server.post("/score", {"queries": "one two", "documents": "three"}))[0] == 200
    assert "token_type_ids" not in engine.calls[-1].prompt
    set_classes(engine, 2)
    assert (await server.post("/score", {"queries": "a", "documents": "b"}))[0] == 501


async def test_late_interaction(server: LocalServer) -> None:
    server.engine.supported_pooling_tasks = ("token_embed",)
    _, answer = await server.post("/score", {"queries": "one two", "documents": "three four"})
    sides = [
        pooled_of_ids(server.engine.tokenizer.encode(text), PoolingParams(task="token_embed"))
        for text in ("one two", "three four")
    ]
    assert answer["data"][0]["score"] == pytest.approx(float((sides[0] @ sides[1].T).max(1).sum()), rel=1e-5)


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
async def test_reranking_for_clients_of_three_makers(server: LocalServer, path: str) -> None:
    documents = ["one", {"text": "two"}, "three", "four"]
    body = {"model": "tiny", "query": "seven", "documents": documents, "top_n": 3}
    status, answer = await server.post(path, body)
    assert status == 200, answer
    _, scored = await server.post("/score", {"queries": "seven", "documents": documents})
    scores = [one["score"] for one in scored["data"]]
    order = sorted(range(4), key=lambda index: -scores[index])[:3]
    assert [(one["index"], one["relevance_score"]) for one in answer["results"]] == [(index, scores[index]) for index in order]
    texts = ["one", "two", "three", "four"]
    assert [one["document"]["text"] for one in answer["results"]] == [texts[index] for index in order]
    assert answer["usage"]["total_tokens"] == answer["meta"]["tokens"]["input_tokens"] > 0
    assert answer["meta"]["billed_units"] == {"search_units": 1}
    assert answer["model"] == "tiny"
    _, bare = await server.post(path, {**body, "return_documents": False, "top_n": 0})
    assert len(bare["results"]) == 4
    assert "document" not in bare["results"][0]


async def test_coheres_embeddings(server: LocalServer) -> None:
    kinds = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    body = {"model": "tiny", "texts": ["one", "two"], "input_type": "search_query", "embedding_types": kinds}
    status, answer = await server.post("/v2/embed", body)
    assert status == 200, answer
    assert list(answer["embeddings"]) == kinds
    assert answer["embeddings"]["float"] == [pytest.approx(vector(server.engine, text)) for text in ("one", "two")]
    raw = np.frombuffer(base64.b64decode(answer["embeddings"]["base64"][1]), "<f4")
    assert raw.tolist() == np.float32(answer["embeddings"]["float"][1]).tolist()
    assert [len(answer["embeddings"][kind][0]) for kind in ("int8", "ubinary")] == [16, 2]
    assert (answer["texts"], answer["response_type"]) == (["one", "two"], "embeddings_by_type")
    assert answer["meta"]["billed_units"]["input_tokens"] == sum(
        len(call.prompt["prompt_token_ids"]) for call in server.engine.calls
    )
    parts = {"inputs": [{"content": [{"type": "text", "text": "one"}]}], "output_dimension": 8}
    status, cut = await server.post("/v2/embed", parts)
    assert cut["embeddings"] == {"float": [pytest.approx(vector(server.engine, "one", dimensions=8))]}
    long = {"texts": ["one two three four five six seven eight nine ten"], "max_tokens": 3}
    encoded = server.engine.tokenizer.encode(long["texts"][0])  # type: ignore[index]
    for truncate, kept in (("END", encoded[:3]), ("START", encoded[-3:])):
        assert (await server.post("/v2/embed", {**long, "truncate": truncate}))[0] == 200
        assert server.engine.calls[-1].prompt["prompt_token_ids"] == kept
    assert await params_of(server, {**long, "truncate": "NONE"}, "/v2/embed") == "texts[0]"
    assert (await server.post("/v2/embed", {**parts, "output_dimension": 3, "embedding_types": ["binary"]}))[0] == 400


@pytest.mark.parametrize(
    ("input_type", "prompt"),
    [
        ("search_query", "find: "),
        ("query", "find: "),
        ("search_document", ""),
        ("clustering", "group: "),
        ("classification", ""),
        (None, ""),
    ],
)
async def test_prompts_by_purpose(server: LocalServer, input_type: str | None, prompt: str) -> None:
    server.state.text_prompts = {"query": "find: ", "clustering": "group: "}
    _, answer = await server.post("/v2/embed", {"texts": ["one"], "input_type": input_type})
    assert answer["embeddings"]["float"][0] == pytest.approx(vector(server.engine, prompt + "one"))
    assert answer["texts"] == ["one"]
    assert await params_of(server, {"texts": ["one"], "input_type": "guess"}, "/v2/embed") == "input_type"


def test_files_with_prompts(tmp_path: Path) -> None:
    assert read_text_prompts(tmp_path, {}) == {}
    assert read_text_prompts(tmp_path, {"task_instructions": {"query": "q: "}}) == {"query": "q: "}
    file = tmp_path / "config_sentence_transformers.json"
    file.write_text('{"prompts": {"passage": "p: "}, "default_prompt_name": null}')
    assert read_text_prompts(tmp_path, {"task_instructions": {"query": "q: "}}) == {"passage": "p: "}
    for wrong in ('{"prompts": {"query": 5}}', '{"prompts": []}', "[]", "{"):
        file.write_text(wrong)
        with pytest.raises(ConfigError, match="config_sentence_transformers"):
            read_text_prompts(tmp_path, {})


async def test_what_the_model_is_not_for(server: LocalServer) -> None:
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    for path, body in (("/v1/chat/completions", chat), ("/v1/completions", {"prompt": "a"}), ("/generate", {"prompt": "a"})):
        status, answer = await server.post(path, body)
        assert status == 501, path
        assert "--runner generate" in answer["error"]["message"]
    server.engine.supported_pooling_tasks = ("classify",)
    status, answer = await server.post("/v1/embeddings", {"input": "a"})
    assert status == 501
    assert "embed" in answer["error"]["message"]
    server.engine.supported_pooling_tasks = ()
    for path in ("/v1/embeddings", "/v2/embed", "/pooling", "/classify", "/score", "/rerank"):
        status, answer = await server.post(path, {})
        assert (status, answer["error"]["type"]) == (501, "NotImplementedError")
        assert "--runner pooling" in answer["error"]["message"]
    assert (await server.post("/v1/completions", {"prompt": "a"}))[0] == 200


VLLMS: dict[str, Any] = {
    "truncate_prompt_tokens": -1, "padding": None, "truncation_side": None, "request_id": "r", "priority": 0, "mm_processor_kwargs": None,
    "cache_salt": None, "add_special_tokens": True, "use_activation": None, "user": None,
}  # fmt: skip
CHATS = {
    "add_generation_prompt": False,
    "continue_final_message": False,
    "chat_template": None,
    "chat_template_kwargs": None,
    "media_io_kwargs": None,
}
CODES = {"encoding_format": "float", "embed_dtype": "float32", "endianness": "native"}
PAIRED = {"max_tokens_per_query": 0, "max_tokens_per_doc": 0, "instruction": None, "chat_template_kwargs": None}


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/embeddings", {"input": "Hi", "dimensions": None, **CHATS, **CODES}),
        ("/pooling", {"input": "Hi", "task": None, "dimensions": None, **CHATS, **CODES}),
        ("/classify", {"input": "Hi", **CHATS}),
        ("/score", {"queries": "Hi", "documents": "you", **PAIRED}),
        ("/rerank", {"query": "Hi", "documents": ["you"], "top_n": 0, **PAIRED}),
    ],
)
async def test_vllms_fields_at_their_defaults_are_all_known(server: LocalServer, path: str, fields: dict[str, Any]) -> None:
    async with server.client.post(server.url + path, json={"model": "tiny", **VLLMS, **fields}) as response:
        assert response.status == 200, await response.text()
        assert "X-Octavo-Warning" not in response.headers


INPUT: dict[str, Any] = {"input": "Hi"}
BAD_ANYWHERE: list[tuple[dict[str, Any], str]] = [
    ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
    ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
    ({"truncate_prompt_tokens": 10**6}, "truncate_prompt_tokens"),
    ({"truncate_prompt_tokens": 2**70}, "truncate_prompt_tokens"),
    ({"use_activation": "perhaps"}, "use_activation"),
    ({"normalize": True}, "normalize"),
    ({"softmax": True}, "softmax"),
    ({"padding": "max_length"}, "padding"),
    ({"priority": 2**70}, "priority"),
    ({"request_id": "two words"}, "request_id"),
    ({"cache_salt": "a/b"}, "cache_salt"),
    ({"timeout": 0}, "timeout"),
]
BAD_INPUT: list[tuple[dict[str, Any], str]] = [
    ({"input": []}, "input"),
    ({"input": [[]]}, "input[0]"),
    ({"input": [[1], []]}, "input[1]"),
    ({"input": ["a", ""]}, "input[1]"),
    ({"input": [[1], [-1]]}, "input[1]"),
    ({"input": [[1], [2], [10**6]]}, "input[2]"),
    ({"input": [-1]}, "input"),
    ({"input": [1, "a"]}, "input"),
    ({"input": [[1], "a"]}, "input"),
    ({"input": ["a"] * 2049}, "input"),
    ({"input": [[1]] * 2049}, "input"),
    ({"input": 5}, "input"),
    ({"input": {"text": "a"}}, "input"),
    ({"input": [1.5]}, "input[0]"),
    ({"input": [2**70]}, "input[0]"),
    ({"input": [5] * 3000}, "input"),
    ({"input": ["a", "word " * 3000]}, "input[1]"),
    ({"input": None}, "input"),
    ({"messages": [{"role": "user", "content": "a"}]}, "input"),
    ({"input": None, "messages": []}, "messages"),
    ({"input": None, "messages": [[], {}]}, "messages"),
    ({"encoding_format": "base32"}, "encoding_format"),
    ({"encoding_format": "bytes", "input": ["a"] * 513}, "encoding_format"),
    ({"embed_dtype": "int4"}, "embed_dtype"),
    ({"endianness": "middle"}, "endianness"),
    ({"truncation_side": "middle"}, "truncation_side"),
]
BAD_PAIRS: list[tuple[dict[str, Any], str]] = [
    ({}, "queries"),
    ({"queries": "a"}, "queries"),
    ({"queries": "a", "text_2": "b"}, "queries"),
    ({"queries": "a", "documents": "b", "items": "c"}, "documents"),
    ({"text_1": ["a", "b"], "text_2": ["c"]}, "text_1"),
    ({"text_1": [], "text_2": []}, "text_1"),
    ({"text_1": "a", "text_2": ["b"] * 2049}, "text_2"),
    ({"text_1": "a", "text_2": ["b", {"image": "c"}]}, "text_2[1]"),
    ({"text_1": "a", "text_2": ["b", {"content": [{"type": "image_url"}]}]}, "text_2[1].content[0]"),
    ({"text_1": "a", "text_2": [5]}, "text_2[0]"),
    ({"text_1": "a", "text_2": ["b", "word " * 3000]}, "text_2[1]"),
    ({"text_1": "a", "text_2": ""}, "text_2"),
    ({"text_1": "a", "text_2": "b", "instruction": "do"}, "instruction"),
    ({"text_1": "a", "text_2": "b", "max_tokens_per_doc": -1}, "max_tokens_per_doc"),
]
BAD_RERANK: list[tuple[dict[str, Any], str]] = [
    ({"query": "a"}, "documents"),
    ({"documents": ["a"]}, "query"),
    ({"query": "a", "documents": []}, "documents"),
    ({"query": "a", "documents": "b"}, "documents"),
    ({"query": ["a"], "documents": ["b"]}, "query"),
    ({"query": "a", "documents": ["b"], "top_n": -1}, "top_n"),
    ({"query": "a", "documents": ["b", {}]}, "documents[1]"),
    ({"query": "a", "documents": ["b"], "rank_fields": ["title"]}, "rank_fields"),
]
BAD_EMBED: list[tuple[dict[str, Any], str]] = [
    ({}, "texts"),
    ({"texts": []}, "texts"),
    ({"texts": ["a"] * 2049}, "texts"),
    ({"texts": ["a", ""]}, "texts[1]"),
    ({"texts": "a"}, "texts"),
    ({"texts": ["a"], "inputs": []}, "texts"),
    ({"inputs": [{"content": []}]}, "inputs[0].content"),
    ({"inputs": [{"content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "inputs[0].content[0]"),
    ({"texts": ["a"], "embedding_types": ["int4"]}, "embedding_types[0]"),
    ({"texts": ["a"], "truncate": "MIDDLE"}, "truncate"),
    ({"texts": ["a"], "max_tokens": 0}, "max_tokens"),
    ({"texts": ["a"], "output_dimension": 0}, "output_dimension"),
    ({"images": ["data:image/png;base64,AAAA"]}, "images"),
    ({"texts": ["word " * 3000], "truncate": "NONE"}, "texts[0]"),
]
CASES = [
    *[(path, {**INPUT, **bad}, param) for path in ("/v1/embeddings", "/pooling", "/classify") for bad, param in BAD_ANYWHERE],
    *[("/rerank", {"query": "a", "documents": ["b"], **bad}, param) for bad, param in BAD_ANYWHERE],
    *[("/v1/embeddings", {**INPUT, **bad}, param) for bad, param in BAD_INPUT],
    ("/v1/embeddings", {**INPUT, "dimensions": 0}, "dimensions"),
    ("/v1/embeddings", {**INPUT, "dimensions": 2**70}, "dimensions"),
    ("/v1/embeddings", {**INPUT, "dimensions": "many"}, "dimensions"),
    *[("/score", bad, param) for bad, param in BAD_PAIRS],
    *[("/v2/rerank", bad, param) for bad, param in BAD_RERANK],
    *[("/v2/embed", bad, param) for bad, param in BAD_EMBED],
]


@pytest.mark.parametrize(("path", "body", "param"), CASES, ids=lambda value: str(value)[:50])
async def test_bad_bodies(server: LocalServer, path: str, body: dict[str, Any], param: str) -> None:
    assert await params_of(server, body, path) == param
    assert not server.engine.calls, "nothing of it reached the engine"
