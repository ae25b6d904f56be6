"""Malformed and extreme requests: every field of every endpoint, given values it should not get.

`requests(seed, count)` yields (path, body bytes); the same seed gives the same requests.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

NAN = float("nan")
INF = float("inf")

_VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 2, 10**9, -(10**9), 2**31, 2**63, 2**64, 10**40, 0.5, -0.5, 1e308, NAN, INF, -INF, "", " ", "x",
    "\x00", "\ud83d\ude00" * 50, "a" * 5000, [], [[]], [None], [-1], [10**9], [2**63], ["x"], [1.5], [NAN], list(range(3000)),
    [list(range(50))] * 40, ["s"] * 2000, {}, {"a": 1}, {"1": 1e9}, {"-1": 1}, {"x": "y"}, {"99999999": 5}, [{}], [{"role": 1}],
    [{"role": "user"}], [{"role": "user", "content": 5}], [{"role": "user", "content": [{"type": "text"}]}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]}],
]  # fmt: skip

_SAMPLING = [
    "n", "best_of", "max_tokens", "min_tokens", "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty",
    "repetition_penalty", "seed", "stop", "stop_token_ids", "ignore_eos", "logprobs", "top_logprobs", "prompt_logprobs",
    "logit_bias", "allowed_token_ids", "bad_words", "skip_special_tokens", "spaces_between_special_tokens",
    "include_stop_str_in_output", "stream", "stream_options", "priority", "cache_salt", "timeout", "logprob_token_ids",
    "truncate_prompt_tokens", "request_id", "user", "use_beam_search", "length_penalty", "response_format", "structured_outputs",
    "guided_json", "repetition_detection", "return_token_ids", "return_tokens_as_token_ids", "add_special_tokens", "model",
]  # fmt: skip
_CHAT = [
    *_SAMPLING, "messages", "max_completion_tokens", "tools", "tool_choice", "chat_template", "chat_template_kwargs", "documents",
    "add_generation_prompt", "continue_final_message", "echo", "reasoning_effort", "parallel_tool_calls",
]  # fmt: skip

ENDPOINTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "/v1/completions": ({"prompt": "Hello there", "max_tokens": 4}, [*_SAMPLING, "prompt", "echo", "suffix", "prompt_embeds"]),
    "/v1/chat/completions": ({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}, _CHAT),
    "/generate": ({"prompt": "Hello there", "max_tokens": 4}, [*_SAMPLING, "prompt"]),
    "/tokenize": (
        {"prompt": "Hello"},
        ["prompt", "messages", "add_special_tokens", "return_token_strs", "model", "chat_template"],
    ),
    "/detokenize": ({"tokens": [1, 2, 3]}, ["tokens", "model"]),
}


def requests(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """`count` requests: four in five have one to three fields replaced, the rest are broken bytes."""
    rng = random.Random(seed)
    paths = list(ENDPOINTS)
    for index in range(count):
        path = paths[index % len(paths)]
        yield path, _broken_bytes(rng, path) if rng.random() < 0.2 else _mutated(rng, path, index)


def _mutated(rng: random.Random, path: str, index: int) -> bytes:
    base, fields = ENDPOINTS[path]
    body = dict(base)
    body[fields[index // len(ENDPOINTS) % len(fields)]] = rng.choice(_VALUES)
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        body[rng.choice(fields)] = rng.choice(_VALUES)
    return json.dumps(body).encode("utf-8", "surrogatepass")


def _broken_bytes(rng: random.Random, path: str) -> bytes:
    base, fields = ENDPOINTS[path]
    text = json.dumps(base).encode()
    field = rng.choice(fields)
    return rng.choice(
        [
            b"", b"null", b"[]", b"42", b'"text"', b"{", text[:-1], text + b"}", b"\xff\xfe" + text, text.replace(b"e", b"\xe9"),
            b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000, f'{{"{field}": '.encode() + b"[" * 3000 + b"]" * 3000 + b"}",
            f'{{"{field}": NaN}}'.encode(), f'{{"{field}": 1e999}}'.encode(), b'{"prompt": "\\ud800", "tokens": [1]}',
            b'{"prompt": "' + b"\xc3\x28" + b'"}', b"\x00" * 1000, text.replace(b":", b";"), rng.randbytes(500),
        ]
    )  # fmt: skip
