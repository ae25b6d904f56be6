"""Parsers of reasoning and tool calls: the same however the text is cut, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import ConfigError
from octavo.frontend.output_parsers.events import Content, Event, ParsedCall, ParsedOutput, fold
from octavo.frontend.output_parsers.parser import Parser
from octavo.frontend.output_parsers.reasoning import ChainedParser
from octavo.frontend.output_parsers.registry import REASONING_PARSERS, TOOL_PARSERS, reasoning_parser, tool_parser

Call = tuple[str, dict[str, Any]]

SENTINEL = "§"
"""In no format's markup, so it must be found in what any parser puts out."""


def as_json(call: Call, key: str = "arguments") -> str:
    return json.dumps({"name": call[0], key: call[1]}, ensure_ascii=False)


def array(calls: list[Call]) -> str:
    return f"[{', '.join(map(as_json, calls))}]"


def hermes(calls: list[Call]) -> str:
    return "\n".join(f"<tool_call>\n{as_json(call)}\n</tool_call>" for call in calls)


def pythonic(calls: list[Call]) -> str:
    texts = (f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})" for name, arguments in calls)
    return f"[{', '.join(texts)}]"


def parameter_tags(calls: list[Call]) -> str:
    return "\n".join(f"<tool_call>\n<function={name}>\n{parameters(values)}</function>\n</tool_call>" for name, values in calls)


def parameters(values: dict[str, Any]) -> str:
    texts = ((key, value if isinstance(value, str) else json.dumps(value)) for key, value in values.items())
    return "".join(f"<parameter={key}>\n{text}\n</parameter>\n" for key, text in texts)


def deepseek(before: str, after: str) -> Callable[[list[Call]], str]:
    def write(calls: list[Call]) -> str:
        texts = (f"{begin}{before.format(name)}{json.dumps(value)}{after}{end}" for name, value in calls)
        return "<｜tool▁calls▁begin｜>" + "\n".join(texts) + "<｜tool▁calls▁end｜>"

    begin, end = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
    return write


WRITERS: dict[str, Callable[[list[Call]], str]] = {
    "deepseek_v3": deepseek("function<｜tool▁sep｜>{}\n```json\n", "\n```"),
    "deepseek_v31": deepseek("{}<｜tool▁sep｜>", ""),
    "granite-20b-fc": lambda calls: "".join(f"<function_call> {as_json(call)}" for call in calls),
    "granite4": hermes,
    "internlm": lambda calls: "\n".join(f"<|action_start|><|plugin|>\n{as_json(c, 'parameters')}<|action_end|>" for c in calls),
    "jamba": lambda calls: f"<tool_calls>{array(calls)}</tool_calls>",
    "llama4_pythonic": lambda calls: f"<|python_start|>{pythonic(calls)}<|python_end|>",
    "granite": lambda calls: "<|tool_call|> " + array(calls),
    "hermes": hermes,
    "llama3_json": lambda calls: "<|python_tag|>" + "; ".join(as_json(call, "parameters") for call in calls),
    "llama4_json": lambda calls: "; ".join(as_json(call, "parameters") for call in calls),
    "mistral": lambda calls: "".join(f"[TOOL_CALLS]{name}[ARGS]{json.dumps(value)}" for name, value in calls),
    "phi4_mini_json": lambda calls: "functools" + array(calls),
    "pythonic": pythonic,
    "qwen3_coder": parameter_tags,
    "qwen3_json": lambda calls: hermes(calls).replace("\n", ""),
    "qwen3_xml": lambda calls: parameter_tags(calls).replace("<tool_call>\n", "").replace("\n</tool_call>", ""),
}

TYPES = {"n": "integer", "x": "number", "b": "boolean", "o": "object", "l": "array", "s": "string", "u": ["integer", "null"]}
TOOL_NAMES = ["look", "go"]
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": name, "parameters": {"properties": {k: {"type": t} for k, t in TYPES.items()}}}}
    for name in TOOL_NAMES
]

names = st.from_regex(r"[a-z_]{1,6}", fullmatch=True)
scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab\"\\{}[]'\n<>/é,", max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)
calls_lists = st.lists(st.tuples(names, st.dictionaries(names, values, max_size=3)), min_size=1, max_size=3)
typed = st.fixed_dictionaries(
    {},
    optional={
        "n": st.integers(),
        "x": st.floats(allow_nan=False, allow_infinity=False),
        "b": st.booleans(),
        "o": st.dictionaries(names, values, max_size=2),
        "l": st.lists(values, max_size=2),
        "s": st.text('ab"\\{}\n<>/é1', max_size=8),
        "u": st.none() | st.integers(),
        "unknown": st.sampled_from(["12", "true", "a b", ""]),
    },
)
typed_lists = st.lists(st.tuples(st.sampled_from(TOOL_NAMES), typed), min_size=1, max_size=3)
XML = {"qwen3_coder", "qwen3_xml"}
written = st.one_of(
    st.tuples(st.sampled_from(sorted(set(WRITERS) - XML)), calls_lists),
    st.tuples(st.sampled_from(sorted(XML)), typed_lists),
)
"""A format's name, and calls that it can write."""
parser_names = st.sampled_from(sorted(WRITERS))
cuts = st.lists(st.integers(0, 400), max_size=12)


def run(parser: Parser, text: str, places: list[int]) -> list[Event]:
    bounds = sorted({0, len(text), *(place for place in places if place < len(text))})
    events = [event for start, end in pairwise(bounds) for event in parser.feed(text[start:end])]
    return events + parser.finish()


def make(name: str) -> Parser:
    return tool_parser(name, TOOLS)


def whole(parser: Parser, text: str) -> ParsedOutput:
    return fold(run(parser, text, []))


def all_text(output: ParsedOutput) -> str:
    calls = "".join(call.name + call.arguments for call in output.calls)
    return (output.content or "") + (output.reasoning or "") + calls


def parsed(output: ParsedOutput) -> list[Call]:
    assert all(call.complete for call in output.calls)
    return [(call.name, json.loads(call.arguments)) for call in output.calls]


def test_every_tool_parser_is_tested() -> None:
    assert set(WRITERS) == set(TOOL_PARSERS)


@settings(max_examples=400, deadline=None)
@given(written, cuts)
def test_calls_come_out_as_written(case: tuple[str, list[Call]], places: list[int]) -> None:
    name, calls = case
    output = fold(run(make(name), WRITERS[name](calls), places))
    assert parsed(output) == calls
    assert output.content is None


@settings(max_examples=300, deadline=None)
@given(written, st.sampled_from(["Let me see. ", "a < b\n", "[x"]), st.sampled_from([" Done.", "<b>", "\nI\n"]))
def test_text_before_and_after(case: tuple[str, list[Call]], before: str, after: str) -> None:
    name, calls = case
    if name in BARE:
        before = ""
    output = whole(make(name), before + WRITERS[name](calls) + after)
    assert parsed(output) == calls
    assert output.content == before + after


BARE = {"llama4_json", "pythonic"}
"""Written without a marker, so only at the start of a text."""


@settings(max_examples=400, deadline=None)
@given(written, st.integers(0, 400), st.sampled_from([SENTINEL, "}", '"', "<", "]", "(", ""]), cuts)
def test_malformed_text(case: tuple[str, list[Call]], place: int, wrong: str, places: list[int]) -> None:
    name, calls = case
    text = WRITERS[name](calls)
    text = text[:place] + wrong + text[place + 1 :]
    output = fold(run(make(name), text, places))
    assert output == fold(run(make(name), text, list(range(len(text))))) == whole(make(name), text)
    assert all_text(output).count(SENTINEL) == text.count(SENTINEL)
    if not output.calls:
        assert output.content == text


PIECES = [
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "functools",
    "<|python_tag|>",
    "<|tool_call|>",
    '{"name": "f"',
]
PIECES += [', "arguments": ', "{}", "}", "[", "]", ";", ",", " ", "\n", SENTINEL, "<", '"', "\\", "f(", "a=1", ")"]
PIECES += ["<function=f>", "<parameter=n>", "</parameter>", "</function>", "<think>", "</think>", "True"]


@settings(max_examples=500, deadline=None)
@given(parser_names, st.lists(st.sampled_from(PIECES), max_size=14), cuts)
def test_any_markup(name: str, pieces: list[str], places: list[int]) -> None:
    text = "".join(pieces)
    output = whole(make(name), text)
    assert fold(run(make(name), text, places)) == output
    assert all_text(output).count(SENTINEL) == text.count(SENTINEL)
    if not output.calls:
        assert (output.content or "") == text


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_truncation_at_every_place(name: str) -> None:
    calls: list[Call] = [("look", {"n": 12, "s": 'a"b\n'}), ("go", {})]
    text = WRITERS[name](calls)
    full = whole(make(name), text)
    for end in range(len(text)):
        output = whole(make(name), text[:end])
        assert output == fold(run(make(name), text[:end], list(range(end))))
        for cut, call in zip(output.calls, full.calls, strict=False):
            assert cut.name == call.name
            assert call.arguments.startswith(cut.arguments)
            assert not cut.complete or cut.arguments == call.arguments
        if not output.calls:
            assert (output.content or "") == text[:end]


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_plain_text_goes_on_at_once(name: str) -> None:
    parser = make(name)
    assert parser.feed("Hello, world") == [Content("Hello, world")]


@pytest.mark.parametrize("name", ["hermes", "mistral", "llama3_json", "granite", "qwen3_coder"])
def test_arguments_stream(name: str) -> None:
    parser = make(name)
    text = WRITERS[name]([("f", {"s": "x" * 500})])
    fed = text[: text.index("x") + 250]
    assert fold(parser.feed(fed)).calls[0] == ParsedCall("f", '{"s": "' + "x" * 250, complete=False)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("hermes", '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', [("f", {"a": 1})]),
        ("hermes", '<tool_call>{"type": "function", "name": "f", "arguments": {}}', [("f", {})]),
        ("hermes", '<tool_call>\n<tool_call>{"name": "f", "arguments": {}}', [("f", {})]),
        ("hermes", '<tool_call>{"name": "f"}</tool_call>', []),
        ("mistral", '[TOOL_CALLS] [{"name": "f", "arguments": {"a": [1]}}]', [("f", {"a": [1]})]),
        ("mistral", '[TOOL_CALLS]f{"a": 1}[TOOL_CALLS]g{}', [("f", {"a": 1}), ("g", {})]),
        ("granite", '<tool_call>[{"name": "f", "arguments": {}}]', [("f", {})]),
        (
            "pythonic",
            "[f(a=null, b=(1, -2.5), from='x\ny', c='\\d')]",
            [("f", {"a": None, "b": [1, -2.5], "from": "x\ny", "c": "\\d"})],
        ),
        ("pythonic", "[a.b( ), g(x = {'k': true},)]", [("a.b", {}), ("g", {"x": {"k": True}})]),
        ("pythonic", "[f(a='é\\ud800')]", [("f", {"a": "é\ud800"})]),
        ("pythonic", "[f(a=open('x'))]", []),
        ("pythonic", "[see(1)]", []),
        ("llama4_pythonic", "[f(a=1)]", [("f", {"a": 1})]),
        (
            "qwen3_coder",
            "<function=look><parameter=n>7</parameter><parameter=b>True</parameter></function>",
            [("look", {"n": 7, "b": True})],
        ),
        ("qwen3_coder", "<function=look>\n<parameter=n>\nmany\n</parameter>\n</function>", [("look", {"n": "many"})]),
        ("llama3_json", '{"name": "Bob", "age": 3}', []),
        ("llama3_json", 'See: {"name": "f", "parameters": {}}', []),
    ],
)
def test_forms(name: str, text: str, expected: list[Call]) -> None:
    assert parsed(whole(make(name), text)) == expected


TAGS = {
    "deepseek_r1": ("<think>", "</think>"),
    "granite": ("Here is my thought process:", "Here is my response:"),
    "mistral": ("[THINK]", "[/THINK]"),
    "qwen3": ("<think>", "</think>"),
}


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(TAGS)), st.text("ab <[/H", max_size=9), st.text("ab <[/H", max_size=9), st.booleans(), cuts)
def test_reasoning(name: str, thought: str, said: str, opened: bool, places: list[int]) -> None:
    opening, closing = TAGS[name]
    text = ("" if opened else opening) + thought + closing + said
    output = fold(run(reasoning_parser(name, opened), text, places))
    assert output == ParsedOutput(said or None, thought or None, ())


@pytest.mark.parametrize("name", sorted(REASONING_PARSERS))
def test_reasoning_without_an_end_or_a_beginning(name: str) -> None:
    assert whole(reasoning_parser(name, opened=True), " hm") == ParsedOutput(None, " hm", ())
    assert whole(reasoning_parser(name, opened=True), TAGS[name][0] + "hm") == ParsedOutput(None, "hm", ())
    assert whole(reasoning_parser(name), " hm" + TAGS[name][1]) == ParsedOutput(" hm" + TAGS[name][1], None, ())


@settings(max_examples=200, deadline=None)
@given(calls_lists, st.sampled_from(["</think>\n\n", ""]), cuts)
def test_reasoning_then_calls(calls: list[Call], closing: str, places: list[int]) -> None:
    parser = ChainedParser(reasoning_parser("qwen3", opened=True), tool_parser("hermes"))
    output = fold(run(parser, "I call" + closing + hermes(calls), places))
    assert (output.content, output.reasoning) == (None, "I call")
    assert parsed(output) == calls


@pytest.mark.parametrize(
    "value", ["[" * 100_000, "-" * 100_000 + "1", "1+" * 100_000 + "1", "1e999", "{1, 2}", "{**x}", "b'x'"]
)
def test_values_that_are_no_json(value: str) -> None:
    text = f"[f(a={value})]"
    assert whole(make("pythonic"), text) == ParsedOutput(text, None, ())


@pytest.mark.parametrize(
    "text", ["<tool_call>" * 20_000, '<tool_call>{"name": "' + "a" * 200_000, '<tool_call>{"arguments": ' + '{"a":' * 40_000]
)
def test_long_malformed_text_comes_back(text: str) -> None:
    assert fold(run(make("hermes"), text, list(range(0, len(text), 4)))) == ParsedOutput(text, None, ())


def test_unknown_names() -> None:
    with pytest.raises(ConfigError, match=r"--tool-call-parser is 'nope'.*hermes"):
        tool_parser("nope")
    with pytest.raises(ConfigError, match=r"--reasoning-parser is 'nope'.*qwen3"):
        reasoning_parser("nope")
