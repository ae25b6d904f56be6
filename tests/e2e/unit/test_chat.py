"""Shapes and rules of chat completions."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
from fake_engine import TEXT
from local_server import LocalServer, ServerMaker

PATH = "/v1/chat/completions"
HI = [{"role": "user", "content": "Hi"}]
EMPTY = dict.fromkeys(("refusal", "annotations", "audio", "function_call", "reasoning"))
"""Fields of a message that this model has nothing for."""


async def chat(server: LocalServer, **body: Any) -> dict[str, Any]:
    status, answer = await server.post(PATH, {"messages": HI, **body})
    assert status == 200, answer
    return answer


def prompt_text(server: LocalServer) -> str:
    return str(server.engine.calls[-1].prompt["prompt"])


async def test_a_whole_answer(server: LocalServer) -> None:
    answer = await chat(server)
    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    [choice] = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": TEXT, **EMPTY}
    absent = {"logprobs", "stop_reason", "token_ids", "routed_experts"}
    assert {name for name, value in choice.items() if value is None} == absent
    absent = {"prompt_logprobs", "prompt_token_ids", "prompt_text", "service_tier", "kv_transfer_params", "ec_transfer_params"}
    assert {name for name, value in answer.items() if value is None} == {*absent, "metrics"}
    assert prompt_text(server) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert server.engine.calls[-1].params.max_tokens is None


async def test_listed_ids_are_all_shown(server: LocalServer) -> None:
    """Whatever top_logprobs says, and though the sampled token is there too."""
    listed = {"logprobs": True, "logprob_token_ids": [7, 8, 9]}
    for top in (None, 0, 1, 3, 5):
        answer = await chat(server, **listed, top_logprobs=top)
        shown = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        assert {entry["logprob"] for entry in shown} == {-1.5, -2.0, -3.0, -4.0}
    [*_, last] = await server.events(PATH, {"messages": HI, **listed, "top_logprobs": 1})
    assert len(last["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 4


async def test_timings_stand_in_the_usage_chunk(make_server: ServerMaker) -> None:
    server = await make_server(enable_per_request_metrics=True)
    usage = {"stream_options": {"include_usage": True}}
    *events, last = await server.events(PATH, {"messages": HI, **usage})
    assert last["metrics"]["queue_time_ms"] == pytest.approx(500)
    assert last["metrics"]["tokens_per_second"] > 0
    assert not any("metrics" in event for event in events)
    assert "metrics" not in (await server.events(PATH, {"messages": HI, "n": 2, **usage}))[-1]


async def test_forced_usage_stands_in_every_chunk(make_server: ServerMaker) -> None:
    server = await make_server(enable_force_include_usage=True)
    events = await server.events(PATH, {"messages": HI})
    counts = [event["usage"]["completion_tokens"] for event in events]
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert counts[-1] == len(server.engine.tokenizer.encode(TEXT))


async def test_reasoning_effort_is_one_of_openais(server: LocalServer) -> None:
    await chat(server, reasoning_effort="xhigh")
    for path, body in ((PATH, {"messages": HI}), ("/tokenize", {"messages": HI})):
        status, answer = await server.post(path, {**body, "reasoning_effort": "extra_high"})
        assert (status, answer["error"]["param"]) == (400, "reasoning_effort")


async def test_max_completion_tokens_wins(server: LocalServer) -> None:
    await chat(server, max_tokens=3, max_completion_tokens=5)
    assert server.engine.calls[-1].params.max_tokens == 5


async def test_a_stream_adds_up_to_the_whole(server: LocalServer) -> None:
    body = {"messages": HI, "n": 2, "logprobs": True, "top_logprobs": 2, "return_token_ids": True}
    status, whole = await server.post(PATH, body)
    assert status == 200
    events = await server.events(PATH, {**body, "stream_options": {"include_usage": True}})
    *events, last = events
    assert (last["choices"], last["usage"]) == ([], whole["usage"])
    assert {e["object"] for e in events} == {"chat.completion.chunk"}
    for choice in whole["choices"]:
        parts = [e["choices"][0] for e in events if e["choices"][0]["index"] == choice["index"]]
        assert parts[0]["delta"] == {"role": "assistant", "content": ""}
        assert all("role" not in p["delta"] for p in parts[1:])
        assert "".join(p["delta"]["content"] for p in parts) == choice["message"]["content"]
        assert list(chain.from_iterable(p.get("token_ids", []) for p in parts)) == choice["token_ids"]
        content = list(chain.from_iterable(p["logprobs"]["content"] for p in parts if p["logprobs"]))
        assert content == choice["logprobs"]["content"]
        assert all(p["finish_reason"] is None for p in parts[:-1])
        assert parts[-1]["finish_reason"] == choice["finish_reason"]
    assert events[0]["prompt_token_ids"] == whole["prompt_token_ids"]


async def test_the_fingerprint_is_in_a_streams_last_chunk(server: LocalServer) -> None:
    events = await server.events(PATH, {"messages": HI})
    assert events[-1]["system_fingerprint"] == (await chat(server))["system_fingerprint"]
    assert all("system_fingerprint" not in e for e in events[:-1])


async def test_logprobs(server: LocalServer) -> None:
    answer = await chat(server, logprobs=True, top_logprobs=3, max_tokens=1)
    [token] = answer["choices"][0]["logprobs"]["content"]
    assert token["logprob"] == -1.5
    assert bytes(token["bytes"]).decode() == token["token"] == "o"
    assert [t["logprob"] for t in token["top_logprobs"]] == [-0.5, -1.5, -1.5]
    every = await chat(server, logprobs=True, top_logprobs=4, max_tokens=1, return_tokens_as_token_ids=True)
    [token] = every["choices"][0]["logprobs"]["content"]
    assert token["token"].startswith("token_id:")
    none = await chat(server, logprobs=True, max_tokens=2)
    assert [t["top_logprobs"] for t in none["choices"][0]["logprobs"]["content"]] == [[], []]


async def test_minus_infinity_is_shown_as_a_number(server: LocalServer) -> None:
    answer = await chat(server, logprobs=True, top_logprobs=-1, max_tokens=1)
    [token] = answer["choices"][0]["logprobs"]["content"]
    assert [t["logprob"] for t in token["top_logprobs"]] == [-0.5, -1.5, -9999.0]


async def test_content_parts_are_joined(server: LocalServer) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "input_text", "text": "two"}, {"text": "three"}]
    await chat(server, messages=[{"role": "user", "content": parts}])
    assert "user\none\ntwo\nthree<|im_end|>" in prompt_text(server)


async def test_going_on_from_the_last_message(server: LocalServer) -> None:
    messages = [*HI, {"role": "assistant", "content": "Well, "}]
    answer = await chat(server, messages=messages, continue_final_message=True, echo=True)
    assert prompt_text(server).endswith("assistant\nWell, ")
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Well, " + TEXT, **EMPTY}
    events = await server.events(PATH, {"messages": messages, "continue_final_message": True, "echo": True})
    assert "".join(e["choices"][0]["delta"]["content"] for e in events) == "Well, " + TEXT


async def test_no_generation_prompt(server: LocalServer) -> None:
    answer = await chat(server, add_generation_prompt=False)
    assert prompt_text(server).endswith("Hi<|im_end|>\n")
    assert answer["choices"][0]["message"]["role"] == "user"


async def test_a_requests_own_template(make_server: ServerMaker) -> None:
    server = await make_server(trust_request_chat_template=True, response_role="bot")
    template = "{{ messages[0].content }}/{{ mood }}/{{ documents|length }}/{{ tools|length }}/{{ reasoning_effort }}"
    answer = await chat(
        server,
        chat_template=template,
        chat_template_kwargs={"mood": "good"},
        documents=[{"title": "a", "text": "b"}],
        tools=[{"type": "function", "function": {"name": "f"}}],
        tool_choice="none",
        reasoning_effort="low",
    )
    assert prompt_text(server) == "Hi/good/1/1/low"
    assert answer["choices"][0]["message"]["role"] == "bot"


async def test_a_template_that_never_ends_hurts_only_its_request(make_server: ServerMaker) -> None:
    server = await make_server(trust_request_chat_template=True)
    bomb = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x{% endfor %}{% endfor %}{% endfor %}"
    status, answer = await server.post(PATH, {"messages": HI, "chat_template": bomb})
    assert (status, answer["error"]["param"]) == (400, "chat_template")
    await chat(server)
