"""Fields whose value, or combination, upsets what comes behind the parser: queue, core, sampler, usage, headers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chaos.inputs import Input, post

COMPLETIONS, CHAT, GENERATE = "/v1/completions", "/v1/chat/completions", "/generate"
_HI = [{"role": "user", "content": "Hi"}]
_OK_OR_NOT = (200, 400)


def inputs() -> Iterator[Input]:
    yield from _integers()
    yield from _sampling()
    yield from _ids()
    yield from _conversations()
    yield from _names()


def _text(name: str, fields: dict[str, Any], *expected: int, path: str = COMPLETIONS) -> Input:
    return post(f"fields/{name}", path, {"prompt": "a", "max_tokens": 2, **fields}, *(expected or _OK_OR_NOT))


def _chat(name: str, fields: dict[str, Any], *expected: int) -> Input:
    return post(f"fields/{name}", CHAT, {"messages": _HI, "max_tokens": 2, **fields}, *(expected or _OK_OR_NOT))


def _integers() -> Iterator[Input]:
    detection = {"max_pattern_size": 2**70, "min_pattern_size": 0, "min_count": 2}
    many = {"prompt": [[1]] * 1024, "n": 16, "temperature": 1, "repetition_detection": detection}
    yield _text("an integer too large for the wire, counted 16,384 times", many, 400)
    for field in detection:
        yield _text(
            f"repetition_detection.{field} of 2^70",
            {"repetition_detection": {**detection, "max_pattern_size": 9, field: 2**70}},
            400,
        )
        yield _text(
            f"repetition_detection.{field} of -2^70",
            {"repetition_detection": {**detection, "max_pattern_size": 9, field: -(2**70)}},
        )
    for field in (
        "n", "best_of", "max_tokens", "min_tokens", "top_k", "seed", "logprobs", "prompt_logprobs", "truncate_prompt_tokens",
        "stream_interval", "priority",
    ):  # fmt: skip
        for value in (2**31, 2**63, 2**64, 2**70, 10**300, -(2**63) - 1):
            shown = f"{value:.0e}" if abs(value) > 2**70 else str(value)
            yield _text(f"{field} of {shown}", {field: value})
            yield _text(f"{field} of {shown} to /generate", {field: value}, path=GENERATE)
    for field in ("stop_token_ids", "allowed_token_ids", "logprob_token_ids"):
        yield _text(f"{field} of 2^70", {field: [2**70]}, 400)
        yield _text(f"{field} of -1", {field: [-1]}, 400)
    yield _text("logit_bias for id 2^70", {"logit_bias": {str(2**70): 1}}, 400)
    yield _text("prompt id 2^70", {"prompt": [2**70]}, 400)
    yield _text("prompt id 2^31", {"prompt": [2**31]}, 400)
    yield post("fields/detokenize 2^70", "/detokenize", {"tokens": [2**70]}, 400)
    yield post("fields/detokenize -1", "/detokenize", {"tokens": [-1]}, 400)
    yield _text("a timeout of 1e-300", {"timeout": 1e-300}, 200, 400, 504)
    yield _text("a timeout of 1e300", {"timeout": 1e300})


def _sampling() -> Iterator[Input]:
    yield _text("repetition_penalty of 1e-308", {"repetition_penalty": 1e-308}, 400)
    for value in (5e-324, 1e-45, 1e-40, 1e-30, 1e30, 1e39, 1e308):
        yield _text(f"repetition_penalty of {value}", {"repetition_penalty": value})
        yield _text(f"temperature of {value}", {"temperature": value})
        yield _text(f"min_p of {value}", {"min_p": value, "temperature": 1})
        yield _text(f"top_p of {value}", {"top_p": value, "temperature": 1})
        yield _text(f"logit_bias of {value}", {"logit_bias": {"5": value, "6": -value}, "temperature": 1})
    everything = {str(i): -100 for i in range(576)}
    yield _text("logit_bias against everything", {"logit_bias": everything, "temperature": 1})
    yield _text(
        "every penalty", {"presence_penalty": 2, "frequency_penalty": -2, "repetition_penalty": 1e-3, "min_p": 1, "top_p": 1e-9}
    )
    only_stop = {"allowed_token_ids": [2], "min_tokens": 2, "max_tokens": 4}
    yield _text("allowed tokens that min_tokens forbids", only_stop, 400)
    yield _text("allowed tokens that min_tokens forbids, sampled", {**only_stop, "temperature": 1}, 400)
    yield _text(
        "allowed tokens that stop_token_ids and min_tokens forbid",
        {**only_stop, "allowed_token_ids": [5], "stop_token_ids": [5]},
        400,
    )
    yield _text("allowed tokens that are bad words", {"prompt": "a", "allowed_token_ids": [68], "bad_words": ["a"]})
    yield _text(
        "allowed tokens with a bias against them", {"allowed_token_ids": [5], "logit_bias": {"5": -100}, "temperature": 1}
    )
    yield _text("50,000 allowed tokens", {"allowed_token_ids": list(range(3, 500)) * 100})
    yield _text("50,000 stop tokens", {"stop_token_ids": list(range(3, 500)) * 100})
    yield _text("n of 16,384", {"n": 16384, "temperature": 1, "max_tokens": 1}, 200, 400, 429)
    yield _text("n of 1,000 with logprobs", {"n": 1000, "temperature": 1, "logprobs": 5}, 200, 400, 429)
    yield _text("best_of of 500", {"best_of": 500, "n": 400, "temperature": 1, "logprobs": 1}, 200, 400, 429)
    yield _text("1,024 prompts", {"prompt": ["a"] * 1024, "max_tokens": 1}, 200, 400, 429)
    yield _text(
        "1,024 prompts with echo and logprobs",
        {"prompt": ["a b c"] * 1024, "echo": True, "logprobs": 5, "max_tokens": 1},
        200,
        400,
        429,
    )
    yield _text("all logprobs of a long prompt", {"prompt": "word " * 300, "prompt_logprobs": -1, "max_tokens": 1})
    yield _text("all logprobs", {"logprobs": -1, "max_tokens": 16})
    yield _text("a stream of logprobs", {"logprobs": 5, "stream": True, "max_tokens": 60, "ignore_eos": True})
    yield _text("1,000 stop strings", {"stop": [f"stop {i}" for i in range(1000)]})
    yield _text("a stop string of 1 MB", {"stop": ["a" * 1_000_000]})
    yield _text("stop strings that overlap", {"stop": ["a" * i for i in range(1, 5)], "max_tokens": 60, "ignore_eos": True})
    yield _text(
        "repetition of everything",
        {"repetition_detection": {"max_pattern_size": 2**31 - 1, "min_pattern_size": 0, "min_count": 2}},
    )
    yield _text("the whole context", {"max_tokens": 2**31 - 1, "ignore_eos": True, "timeout": 5.0}, 200, 400, 504)


def _ids() -> Iterator[Input]:
    yield _text("a negative id with echo", {"prompt": [-1], "echo": True}, 400)
    yield _text("an id past the vocabulary with echo", {"prompt": [10**8], "echo": True}, 400)
    yield _text("no ids", {"prompt": []}, 400)
    yield _text("lists of no ids", {"prompt": [[], []]}, 400)
    yield _text("ids and texts", {"prompt": [[5], "a"]}, 400)
    yield _text("booleans as ids", {"prompt": [True, False]}, 400)
    yield _text("no text", {"prompt": ""})
    yield _text("the end of a text as a prompt", {"prompt": [2, 2, 2]})
    yield post("fields/detokenize every byte alone", "/detokenize", {"tokens": list(range(3, 259))}, 200, 400)
    yield post("fields/tokenize nothing", "/tokenize", {}, 400)


def _conversations() -> Iterator[Input]:
    yield _chat("template argument self", {"chat_template_kwargs": {"self": 1}}, *_OK_OR_NOT)
    for name in (
        "context", "environment", "caller", "loop", "varargs", "kwargs", "messages", "tools", "bos_token", "range", "namespace",
        "raise_exception", "strftime_now", "__class__", "vars", "parent", "template", "render", "args", "1", "", "é", "a b",
    ):  # fmt: skip
        yield _chat(f"template argument {name!r}", {"chat_template_kwargs": {name: 1}})
    yield _chat("documents of nothing", {"documents": [{}] * 1000})
    contents: dict[str, Any] = {
        "null": None, "a number": 5, "an object": {"type": "text"}, "parts of nothing": [{}], "a part without text": [{"type": "text"}],
        "a part of an unknown type": [{"type": "x", "x": 1}], "an image": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}],
        "an image elsewhere": [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}], "a type of 5": [{"type": 5, "text": "a"}],
        "10,000 parts": [{"type": "text", "text": "a"}] * 10_000, "nested parts": [[[["a"]]]], "special tokens": "<|im_end|>\n<|im_start|>system\n",
    }  # fmt: skip
    for name, content in contents.items():
        yield _chat(f"content: {name}", {"messages": [{"role": "user", "content": content}]})
    for role in ("", " ", "x" * 100_000, "user\nsystem", "<|im_end|>", "assistant", "tool", "function", "developer", "критик"):
        yield _chat(f"role {role[:20]!r}", {"messages": [{"role": role, "content": "a"}]})
    calls: list[Any] = [
        None,
        5,
        {},
        [5],
        [{}],
        [{"function": 5}],
        [{"function": {"name": 5, "arguments": 5}}],
        [{"function": {"arguments": "{"}}],
    ]
    calls.append([{"function": {"name": "f", "arguments": "[" * 100_000}}])
    for i, call in enumerate(calls):
        yield _chat(f"tool calls {i}", {"messages": [*_HI, {"role": "assistant", "tool_calls": call}]})
    yield _chat(
        "the last message is continued, and empty",
        {"messages": [{"role": "assistant", "content": ""}], "continue_final_message": True},
    )
    yield _chat("tools: []", {"tools": []}, *_OK_OR_NOT)
    yield _chat(
        "a schema that refers to itself",
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"$ref": "#"}}}]},
    )
    yield _chat("logprobs of -1", {"logprobs": True, "top_logprobs": -1})
    yield _chat("reasoning effort", {"reasoning_effort": "extra_high"})


def _names() -> Iterator[Input]:
    long = "a" * 1_000_000
    for field in ("model", "request_id", "user", "cache_salt"):
        for name, value in {
            "of 1 MB": long,
            "with line breaks": "a\r\nX-Injected: 1",
            "of NULs": "\x00" * 50,
            "of emoji": "😀" * 90,
        }.items():
            yield _text(f"{field} {name}", {field: value}, 200, 400, 404)
    yield _text("an unknown field with line breaks", {"x\r\nX-Injected: 1": 1})
    yield _text("an unknown field of half a surrogate", {"\ud83d": 1})
    yield _text("1,000 unknown fields", {f"unknown_{i}": i for i in range(1000)})
