"""Text in quantities: what tokenizers, stop strings and lists of forbidden words do with megabytes, and with long words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from chaos.inputs import Input, post

COMPLETIONS, CHAT, GENERATE, TOKENIZE = "/v1/completions", "/v1/chat/completions", "/generate", "/tokenize"
_MB = 1_000_000
_REFUSED = (400, 413)
_DONE_OR_REFUSED = (200, *_REFUSED)

_TEXTS: dict[str, Callable[[int], str]] = {
    "words": lambda n: "word " * (n // 5),
    "one word": lambda n: "a" * n,
    "digits": lambda n: "1234567890" * (n // 10),
    "spaces": lambda n: " " * n,
    "line breaks": lambda n: "\n" * n,
    "spaces and line breaks": lambda n: " \n\t" * (n // 3),
    "CJK": lambda n: "语言模型" * (n // 4),
    "emoji": lambda n: "👩‍👩‍👧" * (n // 5),
    "combining marks": lambda n: "e" + "\u0301" * n,
    "punctuation": lambda n: "'s't're!?" * (n // 9),
    "special tokens": lambda n: "<|im_start|>" * (n // 12),
    "almost special tokens": lambda n: "<|im_" * (n // 5),
    "apostrophes": lambda n: "'" * n,
    "random-looking letters": lambda n: "".join(chr(97 + (i * i * 7 + i // 3) % 26) for i in range(n)),
}


def inputs() -> Iterator[Input]:
    yield from _prompts()
    yield from _long_lists()


def _prompts() -> Iterator[Input]:
    for name, make in _TEXTS.items():
        # A text that fits nowhere may be counted whole, or refused by its length.
        yield post(f"texts/tokenize 2 MB of {name}", TOKENIZE, lambda make=make: {"prompt": make(2 * _MB)}, *_DONE_OR_REFUSED)
        yield post(
            f"texts/complete 8 MB of {name}",
            COMPLETIONS,
            lambda make=make: {"prompt": make(8 * _MB), "max_tokens": 1},
            *_REFUSED,
        )
        yield post(f"texts/chat of 8 MB of {name}", CHAT, lambda make=make: _conversation(make(8 * _MB)), *_REFUSED)
    words = _TEXTS["words"]
    yield post("texts/generate from 8 MB", GENERATE, lambda: {"prompt": words(8 * _MB)}, *_REFUSED)
    yield post(
        "texts/1,000 prompts of 20 kB", COMPLETIONS, lambda: {"prompt": [words(20_000)] * 1000, "max_tokens": 1}, *_REFUSED, 429
    )
    yield post("texts/tokenize a chat of 8 MB", TOKENIZE, lambda: _conversation(words(8 * _MB)), *_DONE_OR_REFUSED)
    strings = {"prompt": words(2 * _MB), "return_token_strs": True}
    yield post("texts/tokenize 2 MB into strings", TOKENIZE, lambda: strings, *_DONE_OR_REFUSED)
    yield post(
        "texts/truncate 8 MB",
        COMPLETIONS,
        lambda: {"prompt": words(8 * _MB), "max_tokens": 1, "truncate_prompt_tokens": 5},
        *_DONE_OR_REFUSED,
    )
    yield post("texts/detokenize 2 MB", "/detokenize", lambda: {"tokens": [68, 69, 70] * 200_000}, *_DONE_OR_REFUSED)
    yield post("texts/detokenize 5 million", "/detokenize", lambda: {"tokens": [5] * 5_000_000}, *_DONE_OR_REFUSED)
    for i in range(4):
        # Clients that give up at once: their text must not keep a thread busy.
        yield post(
            f"texts/chat of 8 MB, client {i} leaves", CHAT, lambda: _conversation(words(8 * _MB)), leaves_after=0.3, silent=True
        )


def _conversation(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 1}


def _long_lists() -> Iterator[Input]:
    def completion(name: str, make: Callable[[], dict[str, Any]], *expected: int) -> Input:
        return post(
            f"texts/{name}", COMPLETIONS, lambda: {"prompt": "a", "max_tokens": 1, **make()}, *(expected or _DONE_OR_REFUSED)
        )

    def chat(name: str, make: Callable[[], dict[str, Any]], *expected: int) -> Input:
        return post(f"texts/{name}", CHAT, lambda: {**_conversation("a"), **make()}, *(expected or _DONE_OR_REFUSED))

    yield completion("12 MB of bad words", lambda: {"bad_words": [f"word {i}" for i in range(900_000)]}, *_REFUSED)
    yield completion("one bad word of 12 MB", lambda: {"bad_words": ["word " * 2_400_000]}, *_REFUSED)
    yield completion("10,000 bad words", lambda: {"bad_words": [f"word {i}" for i in range(10_000)]})
    yield completion("8 MB of stop strings", lambda: {"stop": [f"word {i}" for i in range(600_000)]}, *_REFUSED)
    yield completion("one stop string of 8 MB", lambda: {"stop": "a" * 8 * _MB})
    yield completion("a million stop tokens", lambda: {"stop_token_ids": [5] * _MB})
    yield completion("a million allowed tokens", lambda: {"allowed_token_ids": [5] * _MB})
    yield completion("a million biases", lambda: {"logit_bias": {str(i): 1 for i in range(_MB)}})
    yield completion("a million logprobs", lambda: {"logprobs": 1, "logprob_token_ids": [5] * _MB})
    yield completion("8 MB of metadata", lambda: {"metadata": {str(i): "a" * 80 for i in range(90_000)}})
    yield completion(
        "a schema of 8 MB", lambda: {"response_format": {"type": "json_schema", "json_schema": {"x": ["a"] * 2_000_000}}}
    )
    yield chat("100,000 messages", lambda: {"messages": [{"role": "user", "content": "a"}] * 100_000})
    yield chat("a role of 8 MB", lambda: {"messages": [{"role": "a" * 8 * _MB, "content": "a"}]})
    yield chat("300,000 parts", lambda: {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 300_000}]})
    yield chat("100,000 documents", lambda: {"documents": [{"text": "a" * 50}] * 100_000})
    yield chat(
        "50,000 tools",
        lambda: {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}] * 50_000, "tool_choice": "none"},
    )
    yield chat("template arguments of 8 MB", lambda: {"chat_template_kwargs": {str(i): "a" * 80 for i in range(90_000)}})
    yield chat("a tool call's arguments of 8 MB", lambda: {"messages": [_call('{"a": [' + "1," * 4_000_000 + "1]}")]})
    yield chat("a tool call's arguments 100,000 lists deep", lambda: {"messages": [_call("[" * 100_000 + "]" * 100_000)]})
    yield chat("a tool call's arguments of a million digits", lambda: {"messages": [_call("9" * _MB)]})


def _call(arguments: str) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": arguments}}],
    }
