"""JSON values that nobody should send, and a way to write what `json` refuses to: numbers of 5,000 digits, a key twice."""

from __future__ import annotations

import json
import random
from typing import Any


class Raw(str):
    """Text that stands in the document as it is."""

    __slots__ = ()


class Pairs(list):  # type: ignore[type-arg]
    """An object as (key, value) pairs, keys as often as they come."""


NUMBERS: list[Any] = [
    -1, 0, 1, 2, 7, -(2**31) - 1, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64 - 1, 2**64, 2**70,
    10**40, 0.5, -0.5, 1.5, 1e-308, 5e-324, 1e308, -1e308, Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1e999"), Raw("-0"),
    Raw("-0.0"), Raw("1.0"), Raw("2E0"), Raw("1" + "0" * 400), Raw("9" * 5000), Raw("0." + "0" * 5000 + "1"), Raw("1e-99999"),
    Raw("1e+99999999999"), Raw("01"), Raw("+1"), Raw(".5"), Raw("1."), Raw("0x10"), Raw("--1"), Raw("1_000"), Raw("１"),
]  # fmt: skip
STRINGS: list[str] = [
    "", " ", "x", "0", "1", "true", "null", "NaN", "\x00", "a\x00b", "\ufeff", "\ud83d", "\udc00\ud800", "\U0010ffff", "\uffff",
    "\u202e\u2066abc", "a" + "\u0301" * 5000, "😀" * 3000, "👩‍👩‍👧‍👦🏳️‍🌈", "ﷺ" * 500, "İı\u0130ß", "\r\n\r\n", "\t" * 2000, " " * 20_000,
    "a" * 20_000, "1" * 10_000, "\n" * 5000, "<|im_start|>" * 400, "<|im_end|>", "<｜User｜>", "<s></s><unk>", "{{ 7 * 7 }}",
    "{% for i in range(10**9) %}{% endfor %}", "%s%n%x", "../../../etc/passwd", "file:///etc/passwd", "http://169.254.169.254/",
    "'; DROP TABLE models; --", "\\", '"', "\\u0000", "$ref", "__proto__", "aé" * 2000, "語" * 4000, "\u2028\u2029",
    "data: [DONE]\n\n", "x\r\nX-Injected: 1",
]  # fmt: skip
_IMAGE = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}
STRUCTURES: list[Any] = [
    None, True, False, [], {}, [[]], [None], [True], [{}], {"": None}, {"a": 1}, {"1": 1e9}, {"-1": 1}, {"99999999": 5}, {"x": "y"},
    {"1": None}, {"1.5": 1}, {" 1": 1}, {str(2**64): 1}, [-1], [10**9], [2**31], [2**63], [2**64], [1.5], ["x"], [Raw("NaN")],
    list(range(3000)), [0] * 20_000, [list(range(50))] * 40, [[1]] * 1100, ["s"] * 2000, ["x" * 1000] * 50, [""] * 100,
    {str(i): 1 for i in range(3000)}, Pairs([("a", 1), ("a", 2)]), Pairs([("role", "user"), ("role", [])]),
    Raw("[" * 900 + "]" * 900), Raw("[" * 3000 + "]" * 3000), Raw('{"a":' * 900 + "1" + "}" * 900), Raw('{"a":' * 3000),
    Raw("undefined"), Raw("'x'"), Raw("[1,]"), Raw("{,}"), Raw("/* */1"), Raw('"\\x41"'), Raw('"\\ud800"'), Raw('"\t"'), Raw(""),
    [{"role": 1}], [{"role": "user"}], [{"role": "user", "content": 5}], [{"role": "", "content": ""}], [{"content": "x"}],
    [{"role": "user", "content": [{"type": "text"}]}], [{"role": "user", "content": [_IMAGE]}], [{"role": "x" * 5000, "content": "a"}],
    [{"role": "user", "content": [{"type": "text", "text": "a"}] * 2000}], [{"role": "user", "content": "a"}] * 500,
    [{"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": "[" * 2000}}]}],
    [{"role": "tool", "tool_call_id": [], "content": {}}], [{"role": "user", "content": Raw("[" * 500 + "]" * 500)}],
    [{"type": "function", "function": {"name": "f", "parameters": {"$ref": "#"}}}], {"type": "json_object"},
    {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}}, {"include_usage": "yes"}, {"include_usage": True, "x": 1},
    {"max_pattern_size": 2**70, "min_pattern_size": 0, "min_count": 2}, {"max_pattern_size": -1, "min_pattern_size": 5},
    {"max_pattern_size": 2**31 - 1, "min_pattern_size": 1, "min_count": 2**31 - 1}, {"self": 1}, {"messages": []}, {"tools": 1},
]  # fmt: skip
ALL: list[Any] = [*NUMBERS, *STRINGS, *STRUCTURES]


def any_value(rng: random.Random) -> Any:
    """One of the above, or a small tree of them."""
    if rng.random() < 0.8:
        return rng.choice(rng.choice((NUMBERS, STRINGS, STRUCTURES)))
    return _tree(rng, 4)


def _tree(rng: random.Random, depth: int) -> Any:
    if depth == 0 or rng.random() < 0.3:
        return rng.choice(rng.choice((NUMBERS, STRINGS[:20])))
    if rng.random() < 0.5:
        return [_tree(rng, depth - 1) for _ in range(rng.randrange(4))]
    return Pairs([(rng.choice(_KEYS), _tree(rng, depth - 1)) for _ in range(rng.randrange(4))])


_KEYS = [
    "role",
    "content",
    "type",
    "text",
    "name",
    "function",
    "arguments",
    "",
    "a",
    "0",
    "id",
    "url",
    "parameters",
    "self",
    "\x00",
]


def write(value: Any) -> bytes:
    """The document; lone surrogates are escapes, as `json` writes them."""
    return _text(value).encode("utf-8", "surrogatepass")


def _text(value: Any) -> str:
    match value:
        case Raw():
            return str(value)
        case Pairs():
            return "{" + ",".join(f"{json.dumps(key)}:{_text(item)}" for key, item in value) + "}"
        case dict():
            return "{" + ",".join(f"{json.dumps(key)}:{_text(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_text, value)) + "]"
    return json.dumps(value)
