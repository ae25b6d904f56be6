"""Clients that go away: before, while and after the server works for them; and many at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from chaos.inputs import Input, Piece, post, post_bytes, raw

COMPLETIONS = "/v1/completions"
_LONG = {"max_tokens": 400, "ignore_eos": True, "temperature": 1}
_WORK: dict[str, tuple[str, dict[str, Any]]] = {
    "a stream": ("/v1/completions", {"prompt": "a", "stream": True, **_LONG}),
    "an answer": ("/v1/completions", {"prompt": "a", **_LONG}),
    "eight samples": ("/v1/completions", {"prompt": "a", "n": 8, "stream": True, **_LONG}),
    "forty prompts": ("/v1/completions", {"prompt": ["a b c d"] * 40, **_LONG}),
    "a long prompt": ("/v1/completions", {"prompt": [5] * 1500, **_LONG}),
    "a chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "stream": True, **_LONG}),
    "plain texts": ("/generate", {"prompt": "a", "stream": True, **_LONG}),
    "tokens": ("/tokenize", {"prompt": "word " * 100_000}),
    "text": ("/detokenize", {"tokens": [68] * 100_000}),
}


def inputs() -> Iterator[Input]:
    for name, (path, body) in _WORK.items():
        data = post_bytes(path, json.dumps(body).encode())
        for after in (0.0, 0.005, 0.05, 0.3):
            for resets in (False, True):
                how = "resets" if resets else "ends"
                yield Input(
                    f"leaving/{name}: {how} after {after} s", _pieces(data), silent=True, leaves_after=after, resets=resets
                )
        yield Input(f"leaving/{name}: in mid-request", _pieces(data[: len(data) * 2 // 3]), silent=True, leaves_after=0.02)
        yield Input(
            f"leaving/{name}: with the headers", _pieces(data[: data.index(b"\r\n\r\n") + 4]), silent=True, leaves_after=0.02
        )
    # What is written to a client that reads nothing gathers somewhere.
    stream = {"prompt": "a", "n": 20, "stream": True, "logprobs": 5, **_LONG}
    yield post("leaving/a stream that nobody reads", COMPLETIONS, stream, silent=True, leaves_after=3.0, reads=False)
    yield from _crowds()


def _crowds() -> Iterator[Input]:
    short = {"prompt": "a", "max_tokens": 20, "ignore_eos": True}
    busy = (200, 400, 429, 503)
    yield post(
        "leaving/the same request id forty times at once", COMPLETIONS, {**short, "request_id": "same"}, *busy, copies=40
    )
    yield post("leaving/the same request id, gone at once", COMPLETIONS, {**short, "request_id": "same", **_LONG}, silent=True,
               leaves_after=0.05, copies=40)  # fmt: skip
    header = {"X-Request-Id": "same"}
    yield post(
        "leaving/the same X-Request-Id forty times at once",
        COMPLETIONS,
        {**short, "stream": True},
        *busy,
        copies=40,
        headers=header,
    )
    yield post("leaving/two hundred streams, gone at once", COMPLETIONS, {**short, "stream": True, **_LONG}, silent=True,
               leaves_after=0.1, resets=True, copies=200)  # fmt: skip
    yield raw("leaving/five hundred connections that say nothing", 0.0, silent=True, leaves_after=1.0, copies=500)
    yield raw("leaving/five hundred connections, reset", 0.0, silent=True, leaves_after=0.0, resets=True, copies=500)
    yield raw("leaving/five hundred half requests", b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n",
              silent=True, leaves_after=0.5, copies=500)  # fmt: skip
    priorities = {**short, "priority": -(2**63), "n": 4, "temperature": 1}
    yield post("leaving/forty of the highest priority", COMPLETIONS, priorities, *busy, copies=40)


def _pieces(data: bytes) -> Any:
    def make() -> list[Piece]:
        return [data]

    return make
