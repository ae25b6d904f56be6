"""Answers in the shape that was asked for, from a real server process with a random model, in every spelling."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field
from servers import OctavoServer


class Character(BaseModel):
    """The shape that the document's example asks for, every string bounded, so that a random model finishes it."""

    name: str = Field(max_length=10)
    age: int = Field(ge=0, le=150)
    armor: Literal["leather", "chainmail", "plate"]
    tags: list[Literal["a", "b"]] = Field(max_length=3)


SCHEMA = Character.model_json_schema()
MESSAGES: Any = [{"role": "user", "content": "Give me a character."}]


@pytest.fixture(scope="module")
def client(tiny_server: OctavoServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=tiny_server.url + "/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


def complete(client: openai.OpenAI, seed: int = 1, max_tokens: int = 400, **extra: Any) -> str:
    arguments: dict[str, Any] = {"model": "tiny", "prompt": "Hi", "max_tokens": max_tokens, "seed": seed, "extra_body": extra}
    whole = client.completions.create(**arguments).choices[0]
    streamed = "".join(chunk.choices[0].text for chunk in client.completions.create(**arguments, stream=True))
    assert streamed == whole.text
    assert whole.finish_reason == "stop"
    return whole.text


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "spelling",
    [
        {"guided_json": SCHEMA},
        {"guided_json": json.dumps(SCHEMA)},
        {"structured_outputs": {"json": SCHEMA}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "c", "schema": SCHEMA, "strict": True}}},
    ],
    ids=lambda spelling: next(iter(spelling)),
)
def test_json_is_valid_against_its_schema(client: openai.OpenAI, spelling: dict[str, Any], seed: int) -> None:
    Character.model_validate_json(complete(client, seed, **spelling))


@pytest.mark.parametrize(
    ("spelling", "pattern"),
    [
        ({"guided_regex": r"[A-Z]{3}-\d{2,4}"}, r"[A-Z]{3}-\d{2,4}"),
        ({"structured_outputs": {"regex": "(yes|no)!"}}, "(yes|no)!"),
        ({"guided_choice": ["positive", 'nega"tive', "x+"]}, r'positive|nega"tive|x\+'),
        ({"guided_grammar": 'start: "a" b\nb: "b" | "c"'}, "ab|ac"),
        ({"structured_outputs": {"grammar": 'root ::= "a" tail\ntail ::= "b" | "c"'}}, "ab|ac"),
        ({"guided_json": {"type": "boolean"}, "guided_whitespace_pattern": ""}, "true|false"),
    ],
    ids=str,
)
def test_patterns_choices_and_grammars(client: openai.OpenAI, spelling: dict[str, Any], pattern: str) -> None:
    assert re.fullmatch(pattern, complete(client, 3, **spelling))


def test_chat_parses_into_a_class(client: openai.OpenAI) -> None:
    parsed = client.chat.completions.parse(
        model="tiny", messages=MESSAGES, response_format=Character, max_tokens=400, temperature=1.0, seed=5
    )
    assert isinstance(parsed.choices[0].message.parsed, Character)


def test_a_json_object_begins_as_one(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=MESSAGES, response_format={"type": "json_object"}, max_tokens=20
    )
    assert (answer.choices[0].message.content or "").startswith("{")


def test_several_choices_each_keep_to_it(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="tiny", prompt="Hi", n=4, seed=2, max_tokens=20, extra_body={"guided_regex": "[ab]{6}"}
    )
    assert all(re.fullmatch("[ab]{6}", choice.text) for choice in answer.choices)


def test_empty_older_fields_constrain_nothing(client: openai.OpenAI) -> None:
    arguments: dict[str, Any] = {"model": "tiny", "prompt": "Hi", "max_tokens": 8, "seed": 1}
    empty = client.completions.create(**arguments, extra_body={"guided_json": {}, "guided_regex": "", "guided_choice": []})
    assert empty.choices[0].text == client.completions.create(**arguments).choices[0].text


@pytest.mark.parametrize(
    ("spelling", "said"),
    [
        ({"guided_json": {"type": "array", "uniqueItems": True}}, "uniqueItems"),
        ({"guided_json": {"not": {"type": "string"}}}, "not"),
        ({"guided_json": {"$ref": "https://example.com/schema"}}, "example.com"),
        ({"guided_json": "{"}, "no JSON"),
        ({"guided_json": "[]"}, "must be a schema"),
        ({"guided_regex": "(?=a)a"}, "look-ahead"),
        ({"guided_grammar": "start: missing"}, "missing"),
        ({"structured_outputs": {"grammar": 'root ::= "a'}}, "grammar"),
        ({"structured_outputs": {"json": {"x-guidance": {"lenient": True}, "uniqueItems": True}}}, "uniqueItems"),
    ],
    ids=str,
)
def test_what_cannot_be_enforced_is_refused_by_name(client: openai.OpenAI, spelling: dict[str, Any], said: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="tiny", prompt="Hi", extra_body=spelling)
    assert said in str(caught.value)
    assert caught.value.param == "structured_outputs"


def test_a_schema_nested_too_deeply_is_refused(client: openai.OpenAI) -> None:
    schema: dict[str, Any] = {}
    for _ in range(60):
        schema = {"properties": {"a": schema}}
    with pytest.raises(openai.BadRequestError, match="deep"):
        client.completions.create(model="tiny", prompt="Hi", extra_body={"guided_json": schema})
