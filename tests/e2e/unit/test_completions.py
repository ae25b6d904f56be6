"""Shapes of text completions, the plain protocol and the tokenizer's endpoints."""

from __future__ import annotations

import json
from itertools import chain, pairwise
from typing import Any

import pytest
from fake_engine import TEXT
from local_server import LocalServer, ServerMaker

PATH = "/v1/completions"


async def complete(server: LocalServer, **body: Any) -> dict[str, Any]:
    status, answer = await server.post(PATH, {"prompt": "Hello", "max_tokens": 100, **body})
    assert status == 200, answer
    return answer


async def test_a_whole_answer(server: LocalServer) -> None:
    answer = await complete(server, max_tokens=None)
    assert answer["id"].startswith("cmpl-")
    assert answer["object"] == "text_completion"
    assert answer["model"] == "tiny"
    assert answer["system_fingerprint"].startswith("octavo-")
    assert server.engine.calls[-1].params.max_tokens == 16
    [choice] = answer["choices"]
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "length", None)
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert "prompt_tokens_details" not in usage


async def test_choices_are_ordered_by_prompt_then_sequence(server: LocalServer) -> None:
    answer = await complete(server, prompt=["A", "BB"], n=2, echo=True)
    assert [c["index"] for c in answer["choices"]] == [0, 1, 2, 3]
    assert [c["text"] for c in answer["choices"]] == ["A" + TEXT] * 2 + ["BB" + TEXT] * 2
    num_tokens = len(server.engine.tokenizer.encode(TEXT))
    assert answer["usage"]["completion_tokens"] == 4 * num_tokens
    assert answer["usage"]["prompt_tokens"] == sum(len(server.engine.tokenizer.encode(p)) for p in ("A", "BB"))


async def test_best_of_answers_with_the_likeliest(server: LocalServer) -> None:
    """The engine's cumulative log-probability grows with the sequence's index."""
    made: list[Any] = []
    original = server.engine._completion
    server.engine._completion = lambda *args: made.append(original(*args)) or made[-1]  # type: ignore[func-returns-value]
    answer = await complete(server, n=2, best_of=4, return_token_ids=True)
    assert server.engine.calls[-1].params.n == 4
    assert len(answer["choices"]) == 2
    assert [c["index"] for c in answer["choices"]] == [0, 1]
    assert answer["usage"]["completion_tokens"] == sum(len(c.token_ids) for c in made)
    assert answer["choices"][0]["logprobs"] is None


async def test_token_ids_in_and_out(server: LocalServer) -> None:
    ids = server.engine.tokenizer.encode("Hello world")
    answer = await complete(server, prompt=ids, echo=True, return_token_ids=True)
    [choice] = answer["choices"]
    assert choice["text"] == "Hello world" + TEXT
    assert choice["prompt_token_ids"] == ids
    assert choice["token_ids"] == server.engine.tokenizer.encode(TEXT)
    two = await complete(server, prompt=[ids, ids[:2]], echo=True)
    assert [c["text"] for c in two["choices"]] == ["Hello world" + TEXT, server.engine.tokenizer.decode(ids[:2]) + TEXT]


async def test_echo_of_nothing_but_the_prompt(server: LocalServer) -> None:
    answer = await complete(server, echo=True, max_tokens=0, logprobs=0)
    [choice] = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("Hello", "length")
    assert answer["usage"]["completion_tokens"] == 0
    assert "".join(choice["logprobs"]["tokens"]) == "Hello"
    assert choice["logprobs"]["token_logprobs"][0] is None
    assert choice["logprobs"]["token_logprobs"][1] == -1.5
    events = await server.events(PATH, {"prompt": "Hello", "echo": True, "max_tokens": 0})
    assert "".join(e["choices"][0]["text"] for e in events) == "Hello"


async def test_logprobs(server: LocalServer) -> None:
    answer = await complete(server, logprobs=2, max_tokens=3)
    shown = answer["choices"][0]["logprobs"]
    assert "".join(shown["tokens"]) == answer["choices"][0]["text"]
    assert shown["text_offset"] == [0, 1, 3]
    assert shown["token_logprobs"] == [-1.5] * 3
    for token, top in zip(shown["tokens"], shown["top_logprobs"], strict=True):
        assert len(top) == 2
        assert top[token] == -1.5
    spelled = await complete(server, logprobs=3, max_tokens=1, return_tokens_as_token_ids=True)
    [top] = spelled["choices"][0]["logprobs"]["top_logprobs"]
    assert set(map(type, top)) == {str}
    assert all(token.startswith("token_id:") for token in top)


async def test_prompt_logprobs(server: LocalServer) -> None:
    answer = await complete(server, prompt_logprobs=1)
    first, second, *_ = answer["choices"][0]["prompt_logprobs"]
    assert first is None
    [(token_id, entry)] = second.items()
    assert entry == {"logprob": -1.5, "rank": 2, "decoded_token": server.engine.tokenizer.token_text(int(token_id))}


async def test_a_stream_adds_up_to_the_whole(server: LocalServer) -> None:
    body = {"prompt": ["A", "B"], "n": 2, "max_tokens": 100, "logprobs": 1, "echo": False, "return_token_ids": True}
    status, whole = await server.post(PATH, body)
    assert status == 200
    events = await server.events(PATH, body)
    for choice in whole["choices"]:
        parts = [e["choices"][0] for e in events if e["choices"][0]["index"] == choice["index"]]
        assert "".join(p["text"] for p in parts) == choice["text"]
        assert list(chain.from_iterable(p["token_ids"] for p in parts)) == choice["token_ids"]
        assert list(chain.from_iterable(p["logprobs"]["text_offset"] for p in parts)) == choice["logprobs"]["text_offset"]
        assert [p["finish_reason"] for p in parts if p["finish_reason"]] == [choice["finish_reason"]]
        assert parts[0]["prompt_token_ids"] == choice["prompt_token_ids"]
    assert {e["object"] for e in events} == {"text_completion"}
    assert len({e["id"] for e in events}) == 1


async def test_usage_in_streams(server: LocalServer, make_server: ServerMaker) -> None:
    status, whole = await server.post(PATH, {"prompt": "Hello"})
    assert status == 200
    assert all("usage" not in e for e in await server.events(PATH, {"prompt": "Hello"}))
    last = (await server.events(PATH, {"prompt": "Hello", "stream_options": {"include_usage": True}}))[-1]
    assert (last["choices"], last["usage"]) == ([], whole["usage"])
    options = {"include_usage": True, "continuous_usage_stats": True}
    events = await server.events(PATH, {"prompt": "Hello", "stream_options": options})
    assert [e["usage"]["completion_tokens"] for e in events[:-1]] == list(range(1, len(events)))
    always = await make_server(enable_force_include_usage=True, enable_prompt_tokens_details=True)
    last = (await always.events(PATH, {"prompt": "Hello"}))[-1]
    details = {"cached_tokens": 3, "created_cache_tokens": last["usage"]["prompt_tokens"] - 3, "multimodal_tokens": None}
    assert last["usage"]["prompt_tokens_details"] == details
    counts = [event["usage"]["completion_tokens"] for event in await always.events(PATH, {"prompt": "Hello"})]
    assert counts[:-1] == list(range(1, len(counts))), "forced usage stands in every chunk"


async def test_parameters_reach_the_engine(server: LocalServer) -> None:
    given = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.1, "presence_penalty": 0.3, "frequency_penalty": 0.4,
        "repetition_penalty": 1.1, "seed": 11, "stop": ["x"], "stop_token_ids": [5], "ignore_eos": True, "min_tokens": 2,
        "skip_special_tokens": False, "spaces_between_special_tokens": False, "include_stop_str_in_output": True,
        "allowed_token_ids": [1, 2], "bad_words": ["bad"], "prompt_logprobs": 2, "n": 3, "max_tokens": 9,
    }  # fmt: skip
    await complete(server, **given, logit_bias={"5": 101, "6": -0.5}, priority=4, timeout=8.5, cache_salt="salt", logprobs=1)
    call = server.engine.calls[-1]
    for name, value in given.items():
        assert getattr(call.params, name) == value, name
    assert call.params.logit_bias == {5: 100.0, 6: -0.5}
    assert call.params.logprobs == 1
    assert (call.priority, call.timeout, call.prompt["cache_salt"]) == (4, 8.5, "salt")


async def test_the_models_sampling_defaults_hold_until_a_request_says_otherwise(server: LocalServer) -> None:
    server.engine.config.model.generation_config.update(temperature=0.3, top_k=9, max_new_tokens=7)
    await complete(server, top_k=4)
    params = server.engine.calls[-1].params
    assert (params.temperature, params.top_k, params.max_tokens) == (0.3, 4, 100)


async def test_truncation_and_special_tokens(server: LocalServer) -> None:
    ids = server.engine.tokenizer.encode("one two three four")
    for body, kept in [
        ({"truncate_prompt_tokens": 2}, ids[-2:]),
        ({"truncate_prompt_tokens": 2, "truncation_side": "right"}, ids[:2]),
        ({"truncate_prompt_tokens": -1}, ids),
        ({"add_special_tokens": False}, ids),
    ]:
        await complete(server, prompt="one two three four", **body)
        assert server.engine.calls[-1].prompt["prompt_token_ids"] == kept
    long = ids * 1000
    await complete(server, prompt=long, truncate_prompt_tokens=-1, max_tokens=48)
    assert len(server.engine.calls[-1].prompt["prompt_token_ids"]) == server.engine.max_model_len - 48


async def test_the_servers_time_limit_holds_over_the_requests(make_server: ServerMaker) -> None:
    server = await make_server(request_timeout=5.0)
    for asked, given in [(None, 5.0), (2.0, 2.0), (60.0, 5.0)]:
        await complete(server, timeout=asked)
        assert server.engine.calls[-1].timeout == given


async def test_per_request_metrics(make_server: ServerMaker) -> None:
    server = await make_server(enable_per_request_metrics=True)
    metrics = (await complete(server))["metrics"]
    assert metrics["queue_time_ms"] == pytest.approx(500)
    assert metrics["tokens_per_second"] > 0
    assert (await complete(server, n=2))["metrics"] is None
    usage = {"stream_options": {"include_usage": True}}
    assert (await server.events(PATH, {"prompt": "Hi", **usage}))[-1]["metrics"]["queue_time_ms"] == pytest.approx(500)


async def test_what_is_not_asked_for_is_null(server: LocalServer) -> None:
    answer = await complete(server)
    [choice] = answer["choices"]
    absent = {"logprobs", "stop_reason", "token_ids", "prompt_logprobs", "prompt_token_ids", "routed_experts"}
    assert {name for name, value in choice.items() if value is None} == absent
    absent = {"metrics", "service_tier", "kv_transfer_params", "ec_transfer_params"}
    assert {name for name, value in answer.items() if value is None} == absent
    for event in await server.events(PATH, {"prompt": "Hello"}):
        assert set(event["choices"][0]) <= {"index", "text", "logprobs", "finish_reason", "stop_reason"}


async def test_listed_ids_are_all_shown(server: LocalServer) -> None:
    for logprobs in (0, 1, 3, 5):
        answer = await complete(server, logprobs=logprobs, logprob_token_ids=[7, 8, 9])
        assert set(answer["choices"][0]["logprobs"]["top_logprobs"][0].values()) == {-1.5, -2.0, -3.0, -4.0}
    status, answer = await server.post(PATH, {"prompt": "Hello", "logprob_token_ids": [7]})
    assert (status, answer["error"]["param"]) == (400, "logprob_token_ids")
    status, answer = await server.post(PATH, {"prompt": "Hello", "logprobs": -1})
    assert (status, answer["error"]["param"]) == (400, "logprobs")


async def test_generate(server: LocalServer) -> None:
    status, answer = await server.post("/generate", {"prompt": "Hi ", "n": 2, "max_tokens": 100})
    assert (status, answer) == (200, {"text": ["Hi " + TEXT] * 2})
    status, answer = await server.post("/generate", {"prompt": "Hi ", "n": 1, "best_of": 3, "max_tokens": 100})
    assert (status, answer) == (200, {"text": ["Hi " + TEXT]})
    assert server.engine.calls[-1].params.n == 3
    async with server.client.post(
        server.url + "/generate", json={"prompt": "Hi ", "stream": True, "max_tokens": 100}
    ) as response:
        lines = [json.loads(line) for line in (await response.text()).splitlines()]
    assert lines[-1] == {"text": ["Hi " + TEXT]}
    assert all(after["text"][0].startswith(before["text"][0]) for before, after in pairwise(lines))
    assert len(lines) == len(server.engine.tokenizer.encode(TEXT))


async def test_tokenize_and_detokenize(server: LocalServer) -> None:
    tokenizer = server.engine.tokenizer
    ids = tokenizer.encode("Hello wörld")
    status, answer = await server.post("/tokenize", {"prompt": "Hello wörld", "return_token_strs": True})
    assert status == 200
    assert answer == {
        "count": len(ids),
        "max_model_len": 2048,
        "tokens": ids,
        "token_strs": [tokenizer.id_to_token(i) for i in ids],
    }
    assert await server.post("/detokenize", {"tokens": ids}) == (200, {"prompt": "Hello wörld"})
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    status, answer = await server.post("/tokenize", chat)
    assert tokenizer.decode(answer["tokens"]) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert answer["token_strs"] is None
    text = "lang " * 100_000
    status, answer = await server.post("/tokenize", {"prompt": text})
    assert answer["count"] == len(answer["tokens"]) > 100_000


async def test_models(server: LocalServer) -> None:
    async with server.client.get(server.url + "/v1/models") as response:
        listed = await response.json()
    assert [m["id"] for m in listed["data"]] == ["tiny", "also-tiny"]
    assert listed["data"][0]["max_model_len"] == 2048
    async with server.client.get(server.url + "/v1/models/also-tiny") as response:
        assert (await response.json())["id"] == "also-tiny"
    async with server.client.get(server.url + "/v1/models/some/where") as response:
        assert response.status == 404
        assert (await response.json())["error"]["param"] == "model"
