"""Inputs made by a generator: every field of every endpoint, given values it should not get, or seldom gets.

`make(seed, index)` is one of them, always the same one; a finding is told by its index. One in four and a bit is a request
that is right, but extreme, so that the engine has to work, too; one in eight clients leaves before it is answered.
"""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from chaos import values
from chaos.inputs import Input, Piece, chunked, head, post_bytes
from chaos.values import Pairs, Raw

from octavo.frontend.server.body import BodyType
from octavo.frontend.server.chat.protocol import CHAT_BODY
from octavo.frontend.server.classify.protocol import CLASSIFY_BODY
from octavo.frontend.server.cohere_embed.protocol import EMBED_BODY
from octavo.frontend.server.completions.protocol import COMPLETION_BODY
from octavo.frontend.server.embeddings.protocol import EMBEDDING_BODY
from octavo.frontend.server.generate.protocol import GENERATE_BODY
from octavo.frontend.server.pooling.protocol import POOLING_BODY
from octavo.frontend.server.score.protocol import RERANK_BODY, SCORE_BODY
from octavo.frontend.server.tokenize.protocol import DETOKENIZE_BODY, TOKENIZE_BODY

HELLO = [{"role": "user", "content": "Hi"}]
Endpoints = dict[str, tuple[dict[str, Any], BodyType[Any]]]
GENERATING: Endpoints = {
    "/v1/completions": ({"prompt": "Hello there", "max_tokens": 4}, COMPLETION_BODY),
    "/v1/chat/completions": ({"messages": HELLO, "max_tokens": 4}, CHAT_BODY),
    "/generate": ({"prompt": "Hello there", "max_tokens": 4}, GENERATE_BODY),
    "/tokenize": ({"prompt": "Hello"}, TOKENIZE_BODY),
    "/detokenize": ({"tokens": [1, 2, 3]}, DETOKENIZE_BODY),
}
"""For each endpoint that reads a body: a body that is right, and what the endpoint knows of fields."""
POOLING: Endpoints = {
    "/v1/embeddings": ({"input": ["Hello", "there"]}, EMBEDDING_BODY),
    "/v2/embed": ({"texts": ["Hello", "there"]}, EMBED_BODY),
    "/pooling": ({"input": [5, 6, 7]}, POOLING_BODY),
    "/classify": ({"input": "Hello"}, CLASSIFY_BODY),
    **{path: ({"queries": "Hello", "documents": ["a", "b"]}, SCORE_BODY) for path in ("/score", "/v1/score")},
    **{path: ({"query": "Hello", "documents": ["a", "b"]}, RERANK_BODY) for path in ("/rerank", "/v1/rerank", "/v2/rerank")},
}
"""Those of a server whose model pools."""
ENDPOINTS = {**GENERATING, **POOLING}
_WITHOUT_EFFECT = ("user", "metadata", "store", "prompt_cache_key", "prompt_cache_retention", "parallel_tool_calls")
FIELDS = {
    path: [*sorted(kind.names), *sorted(kind.refused), *_WITHOUT_EFFECT, "unknown_field", ""]
    for path, (_, kind) in ENDPOINTS.items()
}

_Maker = Callable[[random.Random], Any]
_RIGHT: dict[str, _Maker] = {
    "n": lambda r: r.choice([1, 1, 2, 5]),
    "max_tokens": lambda r: r.choice([1, 2, 8, 40]),
    "min_tokens": lambda r: r.choice([0, 1]),
    "temperature": lambda r: r.choice([0.0, 1e-9, 0.01, 1.0, 2.0, Raw("1.0"), Raw("2E0")]),
    "top_p": lambda r: r.choice([1e-12, 0.5, 1.0]),
    "top_k": lambda r: r.choice([-1, 0, 1, 5, 2**31 - 1]),
    "min_p": lambda r: r.choice([0.0, 1e-300, 1.0]),
    "presence_penalty": lambda r: r.choice([-2, 2.0, 1e-300]),
    "frequency_penalty": lambda r: r.choice([-2, 2.0]),
    "repetition_penalty": lambda r: r.choice([0.01, 1.3, 100.0, 1e30]),
    "seed": lambda r: r.choice([-(2**63), -1, 0, 2**63 - 1]),
    "stop": lambda r: r.choice(["e", ["a", "\n", "😀"], ["x" * 900], "\x00"]),
    "stop_token_ids": lambda r: r.choice([[], [2], list(range(300))]),
    "ignore_eos": lambda r: r.random() < 0.9,
    "skip_special_tokens": lambda r: r.random() < 0.1,
    "include_stop_str_in_output": lambda r: r.random() < 0.9,
    "logit_bias": lambda r: r.choice([{"5": -100}, {"5": 1e9}, {str(i): r.uniform(-100, 100) for i in range(300)}]),
    "allowed_token_ids": lambda r: r.choice([[5], [2], list(range(256)), [7] * 50]),
    "bad_words": lambda r: r.choice([["a"], [" the", "e", "😀"], ["ab cd ef"] * 20]),
    "prompt_logprobs": lambda r: r.choice([0, 1, 5]),
    "logprobs": lambda r: r.choice([0, 1, 5]),
    "repetition_detection": lambda r: {"max_pattern_size": r.choice([1, 8]), "min_pattern_size": 1, "min_count": 2},
    "truncate_prompt_tokens": lambda r: r.choice([-1, 1, 5]),
    "stream": lambda r: r.random() < 0.9,
    "stream_interval": lambda r: r.choice([1, 3, 2**31 - 1]),
    "echo": lambda r: r.random() < 0.9,
    "priority": lambda r: r.choice([-(2**63), 2**63 - 1]),
    "cache_salt": lambda r: r.choice(["x", "é" * 100]),
    "timeout": lambda r: r.choice([1e-9, 0.01, 1e300]),
    "return_token_ids": lambda r: r.random() < 0.9,
    "return_tokens_as_token_ids": lambda r: r.random() < 0.9,
    "prompt": lambda r: r.choice(["a", "😀" * 50, [5] * 60, [[5], [6, 7]], ["a", "b", "c"], " " * 500, "\x00", "1" * 300]),
}  # fmt: skip
"""Values at the edge of what is allowed."""


def make(seed: int, index: int, endpoints: Endpoints = GENERATING) -> Input:
    """The `index`-th input of a seed for a server with these endpoints."""
    rng = random.Random(f"{seed}:{index}")
    # Every field of an endpoint has its turn, whatever the dice say.
    path = list(endpoints)[index % len(endpoints)]
    turn = FIELDS[path][index // len(endpoints) % len(FIELDS[path])]
    body = _body(rng, path, turn)
    pieces = _delivered(rng, path, body)
    leaves = rng.random() < 0.12
    if leaves and rng.random() < 0.5:
        pieces = _half_sent(rng, pieces)
    return Input(
        f"generated/{seed}:{index}",
        lambda: pieces,
        silent=leaves,
        leaves_after=rng.choice([0.0, 0.001, 0.01, 0.05, 0.2]) if leaves else None,
        resets=leaves and rng.random() < 0.5,
    )


def _body(rng: random.Random, path: str, turn: str) -> bytes:
    dice = rng.random()
    if dice < 0.3:
        return _right_but_extreme(rng, path)
    if dice < 0.75:
        return _wrong_fields(rng, path, turn)
    if dice < 0.85:
        return _wrong_inside(rng, path)
    if dice < 0.9:
        return _doubled_keys(rng, path, turn)
    return _broken_bytes(rng, path, turn)


def _right_but_extreme(rng: random.Random, path: str) -> bytes:
    base, _ = ENDPOINTS[path]
    body = dict(base)
    known = [name for name in FIELDS[path] if name in _RIGHT and not (name == "prompt" and path != "/v1/completions")]
    for name in rng.sample(known, min(len(known), rng.randrange(1, 6))):
        body[name] = rng.choice([True, False]) if name == "logprobs" and "chat" in path else _RIGHT[name](rng)
    return values.write(body)


def _wrong_fields(rng: random.Random, path: str, turn: str) -> bytes:
    body = dict(ENDPOINTS[path][0])
    body[turn] = values.any_value(rng)
    for name in rng.sample(FIELDS[path], rng.choice([0, 0, 0, 1, 2])):
        body[name] = values.any_value(rng)
    if rng.random() < 0.2:
        del body[rng.choice(list(body))]
    return values.write(body)


def _wrong_inside(rng: random.Random, path: str) -> bytes:
    """A wrong value somewhere within a right one."""
    message = {"role": rng.choice(["user", "system", "assistant", "tool", "developer"]), "content": "a"}
    message[rng.choice(["role", "content", "name", "tool_calls", "tool_call_id", "reasoning", "x"])] = values.any_value(rng)
    part = {"type": "text", "text": "a"}
    part[rng.choice(["type", "text", "image_url", "cache_control"])] = values.any_value(rng)
    tool = {"type": "function", "function": {"name": "f", "parameters": values.any_value(rng)}}
    inside: dict[str, Any] = {
        "messages": rng.choice([[message], [*HELLO, message], [{"role": "user", "content": [part]}], [values.any_value(rng)]]),
        "tools": [tool, values.any_value(rng)],
        "documents": [{"text": values.any_value(rng)}],
        "input": [rng.choice([5, "a", [5]]), values.any_value(rng)],
        "inputs": [{"content": rng.choice([[part], values.any_value(rng)])}],
        "texts": ["a", values.any_value(rng)],
        "queries": {"content": [part]},
        "embedding_types": ["float", values.any_value(rng)],
        "chat_template_kwargs": {rng.choice(["a", "self", "bos_token", "tools", "\x00"]): values.any_value(rng)},
        "stream_options": {"include_usage": values.any_value(rng)},
        "repetition_detection": {"max_pattern_size": values.any_value(rng), "min_count": values.any_value(rng)},
        "logit_bias": {"5": values.any_value(rng)},
        "stop": ["a", values.any_value(rng)],
        "bad_words": ["a", values.any_value(rng)],
        "stop_token_ids": [5, values.any_value(rng)],
        "allowed_token_ids": [5, values.any_value(rng)],
        "prompt": [rng.choice([5, "a", [5]]), values.any_value(rng)],
        "tokens": [5, values.any_value(rng)],
        "response_format": {"type": "json_schema", "json_schema": values.any_value(rng)},
    }
    body = dict(ENDPOINTS[path][0])
    names = [name for name in inside if name in FIELDS[path]]
    name = rng.choice(names)
    body[name] = inside[name]
    if name == "stream_options":
        body["stream"] = True
    return values.write(body)


def _doubled_keys(rng: random.Random, path: str, turn: str) -> bytes:
    pairs = Pairs([*ENDPOINTS[path][0].items(), (turn, values.any_value(rng)), (turn, values.any_value(rng))])
    rng.shuffle(pairs)
    return values.write(pairs)


def _broken_bytes(rng: random.Random, path: str, turn: str) -> bytes:
    text = json.dumps(ENDPOINTS[path][0]).encode()
    at = rng.randrange(len(text))
    key = json.dumps(turn).encode()
    return rng.choice(
        [
            b"", b"null", b"[]", b"42", b'"text"', b"{", b"{}", text[:at], text + b"}", text + text, b"\xff\xfe" + text, b"\xef\xbb\xbf" + text,
            text.replace(b"e", b"\xe9"), text[:at] + b"\x00" + text[at:], text[:at] + bytes([rng.randrange(256)]) + text[at + 1 :],
            b"[" * 20_000, b'{"a":' * 3000 + b"1" + b"}" * 3000, b"{" + key + b": " + b"[" * 3000 + b"]" * 3000 + b"}",
            b"{" + key + b": NaN}", b"{" + key + b": 1e999}", b'{"prompt": "\\ud800", "tokens": [1]}', b'{"prompt": "\xc3\x28"}',
            b"\x00" * 1000, text.replace(b":", b";"), rng.randbytes(500), text.decode().encode("utf-16"), text.decode().encode("utf-32"),
            b" " * 20_000 + text, b"prompt=hello&max_tokens=1", b"<?xml version='1.0'?><prompt/>",
        ]
    )  # fmt: skip


def _delivered(rng: random.Random, path: str, body: bytes) -> list[Piece]:
    """The body as a plain POST, mostly; else chunked, compressed, with wrong headers or by another method."""
    dice = rng.random()
    kind = {"Content-Type": "application/json"}
    if dice < 0.85:
        return [post_bytes(path, body)]
    if dice < 0.9:
        return [head("POST", path, {**kind, "Transfer-Encoding": "chunked"}) + chunked(body, _sizes(rng))]
    if dice < 0.94:
        coding, packed = rng.choice(
            [
                ("gzip", gzip.compress(body)),
                ("deflate", zlib.compress(body)),
                ("gzip", body),
                ("gzip", gzip.compress(body)[:-9]),
            ]
        )
        return [post_bytes(path, packed, {"Content-Encoding": coding})]
    if dice < 0.97:
        name, value = rng.choice(_HEADERS)
        return [post_bytes(path, body, {name: value})]
    method = rng.choice(["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW"])
    return [head(method, path, {**kind, "Content-Length": str(len(body))}) + body]


_HEADERS = [
    ("Content-Type", "text/plain"), ("Content-Type", ""), ("Content-Type", "application/json; charset=utf-16"), ("Content-Type", "a" * 3000),
    ("Content-Encoding", "br"), ("Content-Encoding", "zstd"), ("Content-Encoding", "x"), ("Content-Encoding", "gzip, gzip"),
    ("Accept", "image/png"), ("Accept-Encoding", "gzip;q=nan"), ("X-Request-Id", "a" * 3000), ("X-Request-Id", "\xff\xfe"),
    ("Authorization", "Bearer " + "x" * 3000), ("Authorization", "\xe9"), ("Origin", "null"), ("Expect", "100-continue"),
    ("Cookie", "a=" + "b" * 3000), ("Range", "bytes=0-1"), ("Upgrade", "websocket"), ("X-Forwarded-For", "::1, \x7f"),
]  # fmt: skip


def _sizes(rng: random.Random) -> Iterator[int]:
    while True:
        yield rng.choice([1, 7, 100, 5000])


def _half_sent(rng: random.Random, pieces: list[Piece]) -> list[Piece]:
    data = b"".join(piece for piece in pieces if isinstance(piece, bytes))
    return [data[: rng.randrange(1, len(data))]]


def inputs(seed: int, count: int, endpoints: Endpoints = GENERATING) -> Iterator[Input]:
    """The first `count` inputs of a seed."""
    return (make(seed, index, endpoints) for index in range(count))
