"""The official client against a real server process with a real (tiny, random) model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from servers import OctavoServer

MESSAGES: Any = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "Count to ten."}]
PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def client(tiny_server: OctavoServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=tiny_server.url + "/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("large")
    assert caught.value.param == "model"


CHAT_CASES: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0, "max_tokens": 40},
    {"temperature": 1.0, "seed": 7},
    {"temperature": 1.0, "seed": 7, "n": 3},
    {"temperature": 0, "logprobs": True, "top_logprobs": 3},
    {"temperature": 0, "stop": ["e", "ing"]},
    {"temperature": 0.8, "seed": 3, "presence_penalty": 0.5, "frequency_penalty": 0.5, "logit_bias": {"2": -100}},
    {"temperature": 0.8, "seed": 3, "extra_body": {"top_k": 20, "min_p": 0.05, "repetition_penalty": 1.2, "ignore_eos": True}},
]


@pytest.mark.parametrize("case", CHAT_CASES, ids=str)
def test_chat_deltas_add_up_to_the_whole(client: openai.OpenAI, case: dict[str, Any]) -> None:
    arguments = {"model": "tiny", "messages": MESSAGES, "max_tokens": 24, **case}
    whole = client.chat.completions.create(**arguments)
    texts: dict[int, str] = {}
    finish: dict[int, str | None] = {}
    tokens: dict[int, list[str]] = {}
    usage = None
    for chunk in client.chat.completions.create(**arguments, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            finish[choice.index] = choice.finish_reason
            if choice.logprobs is not None:
                tokens.setdefault(choice.index, []).extend(t.token for t in choice.logprobs.content or [])
    assert texts == {choice.index: choice.message.content for choice in whole.choices}
    assert finish == {choice.index: choice.finish_reason for choice in whole.choices}
    assert usage == whole.usage
    if case.get("logprobs"):
        content = whole.choices[0].logprobs
        assert content is not None
        assert content.content is not None
        assert tokens[0] == [t.token for t in content.content]
        assert all(len(t.top_logprobs) == 3 for t in content.content)
        assert all(t.logprob <= 0 for t in content.content)


COMPLETION_CASES: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0, "prompt": [PROMPT, "Hello", "one two three"]},
    {"temperature": 1.0, "seed": 5, "n": 2, "prompt": [PROMPT, "Hello"]},
    {"temperature": 0, "echo": True},
    {"temperature": 0, "echo": True, "logprobs": 2},
    {"temperature": 0, "logprobs": 0},
    {"temperature": 0, "stop": "e"},
    {"temperature": 0, "prompt": [60, 61, 62, 63]},
    {"temperature": 0, "extra_body": {"include_stop_str_in_output": True, "stop": ["e"], "min_tokens": 3}},
]


@pytest.mark.parametrize("case", COMPLETION_CASES, ids=str)
def test_completion_deltas_add_up_to_the_whole(client: openai.OpenAI, case: dict[str, Any]) -> None:
    arguments = {"model": "tiny", "prompt": PROMPT, "max_tokens": 24, **case}
    whole = client.completions.create(**arguments)
    texts: dict[int, str] = {}
    finish: dict[int, str | None] = {}
    logprobs: dict[int, list[float | None]] = {}
    for chunk in client.completions.create(**arguments, stream=True):
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
            finish[choice.index] = choice.finish_reason
            if choice.logprobs is not None:
                logprobs.setdefault(choice.index, []).extend(choice.logprobs.token_logprobs or [])
    assert texts == {choice.index: choice.text for choice in whole.choices}
    assert finish == {choice.index: choice.finish_reason for choice in whole.choices}
    if "logprobs" in case:
        shown = whole.choices[0].logprobs
        assert shown is not None
        assert logprobs[0] == pytest.approx(shown.token_logprobs, abs=1e-4, nan_ok=True)
        assert shown.tokens is not None
        assert shown.token_logprobs is not None
        assert len(shown.tokens) == len(shown.token_logprobs)
        if case.get("echo"):
            assert "".join(shown.tokens).startswith(PROMPT)


def test_echo_scores_the_prompt(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt=PROMPT, echo=True, max_tokens=0, logprobs=1, temperature=0)
    [choice] = answer.choices
    assert choice.text == PROMPT
    assert choice.logprobs is not None
    assert choice.logprobs.token_logprobs is not None
    assert choice.logprobs.token_logprobs[0] is None
    assert all(score is not None and score < 0 for score in choice.logprobs.token_logprobs[1:])
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 0


def test_best_of_picks_the_likeliest(client: openai.OpenAI) -> None:
    def score(choice: Any) -> float:
        return sum(choice.logprobs.token_logprobs)

    arguments: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "seed": 3, "max_tokens": 6, "logprobs": 0}
    all_of_them = client.completions.create(**arguments, n=4)
    best = client.completions.create(**arguments, n=1, best_of=4)
    assert best.choices[0].text == max(all_of_them.choices, key=score).text
    assert best.usage is not None
    assert all_of_them.usage is not None
    assert best.usage.completion_tokens == all_of_them.usage.completion_tokens


def test_a_seed_makes_answers_repeatable(client: openai.OpenAI) -> None:
    def say(seed: int) -> str:
        return client.completions.create(model="tiny", prompt=PROMPT, seed=seed, max_tokens=20).choices[0].text

    assert say(1) == say(1)
    assert len({say(seed) for seed in range(4)}) > 1


def test_prompt_logprobs_and_token_ids(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=MESSAGES, max_tokens=4, extra_body={"prompt_logprobs": 2, "return_token_ids": True}
    )
    extra = answer.model_extra or {}
    assert len(extra["prompt_logprobs"]) == len(extra["prompt_token_ids"])
    assert extra["prompt_logprobs"][0] is None
    for token_id, scores in zip(extra["prompt_token_ids"][1:], extra["prompt_logprobs"][1:], strict=True):
        assert str(token_id) in scores
        assert len(scores) in (2, 3)


def test_the_clients_errors_have_the_right_class_and_parameter(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="tiny", messages=MESSAGES, temperature=-1)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model="tiny", prompt="word " * 5000)
    assert "2048" in str(long.value)
    with pytest.raises(openai.BadRequestError) as many:
        client.chat.completions.create(model="tiny", messages=MESSAGES, logprobs=True, top_logprobs=10_000)
    assert many.value.param == "top_logprobs"
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="huge", prompt="x")


def test_max_tokens_fill_the_context_and_no_more(client: openai.OpenAI) -> None:
    ids = [60] * 2040
    answer = client.completions.create(model="tiny", prompt=ids, max_tokens=100, extra_body={"ignore_eos": True})
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    assert answer.choices[0].finish_reason == "length"
