"""Parsers by the names their flags take."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from octavo.errors import ConfigError
from octavo.frontend.output_parsers.deepseek_calls import CALLS_BEGIN, deepseek_calls
from octavo.frontend.output_parsers.json_calls import call_array, call_object, mistral_calls, separated_calls
from octavo.frontend.output_parsers.parameter_types import Tools, parameter_types
from octavo.frontend.output_parsers.parser import Grammar, GrammarParser, MarkedCall, Parser, calls_in_text, closed
from octavo.frontend.output_parsers.pythonic_calls import pythonic_calls
from octavo.frontend.output_parsers.reasoning import thinking
from octavo.frontend.output_parsers.text_reader import Markers
from octavo.frontend.output_parsers.xml_calls import parameter_tag_call


def _marked(call: MarkedCall, *markers: str, bare: str = "") -> Callable[[Tools], Grammar]:
    grammar = partial(calls_in_text, markers=Markers(*markers), call=call, bare=bare)
    return lambda _tools: grammar


def _parameter_tags(tools: Tools) -> Grammar:
    call = parameter_tag_call(parameter_types(tools))
    return partial(calls_in_text, markers=Markers("<tool_call>", "<function="), call=call)


_HERMES = _marked(closed(call_object, "</tool_call>"), "<tool_call>")
_LLAMA_JSON = _marked(separated_calls, "<|python_tag|>", bare="{")

TOOL_PARSERS: dict[str, Callable[[Tools], Grammar]] = {
    "deepseek_v3": _marked(deepseek_calls(fenced=True), CALLS_BEGIN),
    "deepseek_v31": _marked(deepseek_calls(fenced=False), CALLS_BEGIN),
    "granite": _marked(call_array, "<|tool_call|>", "<tool_call>"),
    "granite-20b-fc": _marked(closed(call_object, ""), "<function_call>"),
    "granite4": _HERMES,
    "hermes": _HERMES,
    "internlm": _marked(closed(call_object, "<|action_end|>"), "<|action_start|><|plugin|>"),
    "jamba": _marked(closed(call_array, "</tool_calls>"), "<tool_calls>"),
    "llama3_json": _LLAMA_JSON,
    "llama4_json": _LLAMA_JSON,
    "llama4_pythonic": _marked(closed(pythonic_calls, "<|python_end|>"), "<|python_start|>", bare="["),
    "mistral": _marked(mistral_calls, "[TOOL_CALLS]"),
    "phi4_mini_json": _marked(call_array, "functools"),
    "pythonic": _marked(pythonic_calls, bare="["),
    "qwen3_coder": _parameter_tags,
    "qwen3_json": _HERMES,
    "qwen3_xml": _parameter_tags,
}

_THINK = (Markers("<think>"), Markers("</think>"))
_GRANITE = (
    Markers("Here is my thought process:", "Here's my thought process:"),
    Markers("Here is my response:", "Here's my response:"),
)

REASONING_PARSERS: dict[str, Callable[[bool], Grammar]] = {
    "deepseek_r1": lambda opened: thinking(*_THINK, opened),
    "granite": lambda opened: thinking(*_GRANITE, opened),
    "mistral": lambda opened: thinking(Markers("[THINK]"), Markers("[/THINK]"), opened),
    "qwen3": lambda opened: thinking(*_THINK, opened, enders=Markers("<tool_call>")),
}


def tool_parser(name: str, tools: Tools = ()) -> Parser:
    """A parser of one answer's tool calls.

    Args:
        name: as `--tool-call-parser` takes it.
        tools: the request's; formats without types of their own read the arguments' types from their schemas.

    Raises:
        ConfigError: there is no parser of that name.
    """
    if name not in TOOL_PARSERS:
        raise ConfigError(f"--tool-call-parser is {name!r}; there are {', '.join(sorted(TOOL_PARSERS))}")
    return GrammarParser(TOOL_PARSERS[name](tools))


def reasoning_parser(name: str, opened: bool = False) -> Parser:
    """A parser of one answer's reasoning.

    Args:
        name: as `--reasoning-parser` takes it.
        opened: the prompt ends within reasoning.

    Raises:
        ConfigError: there is no parser of that name.
    """
    if name not in REASONING_PARSERS:
        raise ConfigError(f"--reasoning-parser is {name!r}; there are {', '.join(sorted(REASONING_PARSERS))}")
    return GrammarParser(REASONING_PARSERS[name](opened))
