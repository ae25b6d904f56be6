"""Kills the core of a running server again and again, under 16 streams that must not notice.

    python tests/chaos/core_kills.py --kills 200 [--model MODEL] [--seed N]

Every stream is compared with what the same request gave before the first kill: token for token, text, log-probabilities,
finish reason and counts. In the end the server must stop with 0, and leave no process, no socket and no file.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import json
import math
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from servers import OctavoServer

NUM_STREAMS = 16
LONGEST_DELAY = 4.0
"""Seconds from a core's first token to its end, at most."""
EARLY = 0.3
"""Share of the kills that do not wait for a token: they meet the imports, the weights, or requests computed again."""
STREAM_TIMEOUT = 600.0
PROMPTS = (
    "The capital of France is", "Once upon a time, in a land far away,", "def fibonacci(n):", "1, 2, 3, 4,",
    "A server reads a request and", "The quick brown fox", "Name three rivers:", "It was the best of times,",
)  # fmt: skip
VARIANTS: tuple[dict[str, Any], ...] = (
    {"temperature": 0},
    {"temperature": 0.9, "seed": 7},
    {"temperature": 1.2, "seed": 11, "top_p": 0.9, "top_k": 40},
    {"temperature": 0, "repetition_penalty": 1.3, "logprobs": 2},
    {"temperature": 0.8, "seed": 3, "frequency_penalty": 0.7, "presence_penalty": 0.4, "min_p": 0.05},
    {"temperature": 1.0, "seed": 5, "n": 3},
    {"temperature": 0, "echo": True, "logprobs": 1},
    {"temperature": 1.0, "seed": 9, "min_tokens": 60, "ignore_eos": False, "stop": ["zq!"]},
)


def bodies(max_tokens: int) -> list[dict[str, Any]]:
    """The 16 requests: each variant twice, with prompts and lengths of their own."""
    common = {"stream": True, "ignore_eos": True, "return_token_ids": True, "stream_options": {"include_usage": True}}
    return [
        {
            **common,
            "prompt": PROMPTS[(3 * i) % len(PROMPTS)] * (1 + i // 4),
            "max_tokens": max_tokens + 7 * i,
            **VARIANTS[i % 8],
        }
        for i in range(NUM_STREAMS)
    ]


@dataclass
class Answer:
    """A stream put together; equal when nothing in it differs that a client could see."""

    texts: dict[int, str] = field(default_factory=dict)
    token_ids: dict[int, list[int]] = field(default_factory=dict)
    logprobs: dict[int, list[Any]] = field(default_factory=dict)
    finish: dict[int, Any] = field(default_factory=dict)
    completion_tokens: int = -1
    prompt_tokens: int = -1
    error: Any = None
    done: bool = False

    def take(self, data: str) -> None:
        if data == "[DONE]":
            self.done = True
            return
        event = json.loads(data)
        if "error" in event:
            self.error = event["error"]
            return
        if event.get("usage"):
            self.completion_tokens = event["usage"]["completion_tokens"]
            self.prompt_tokens = event["usage"]["prompt_tokens"]
        for choice in event["choices"]:
            index, scores = choice["index"], choice.get("logprobs")
            self.texts[index] = self.texts.get(index, "") + choice["text"]
            self.token_ids.setdefault(index, []).extend(choice.get("token_ids") or [])
            if scores:
                rows = zip(scores["tokens"], scores["token_logprobs"], scores["top_logprobs"], strict=True)
                self.logprobs.setdefault(index, []).extend(rows)
            if choice.get("finish_reason"):
                self.finish[index] = choice["finish_reason"], choice.get("stop_reason")


async def ask(
    session: aiohttp.ClientSession, url: str, body: dict[str, Any], on_chunk: Callable[[], None] | None = None
) -> Answer:
    """Stream one request to its end."""
    answer = Answer()
    async with session.post(f"{url}/v1/completions", json=body, timeout=aiohttp.ClientTimeout(STREAM_TIMEOUT)) as response:
        if response.status != 200:
            answer.error = response.status, await response.text()
            return answer
        async for line in response.content:
            if line.startswith(b"data: "):
                answer.take(line[6:].decode().strip())
                if on_chunk is not None:
                    on_chunk()
    return answer


def core_pid(server: OctavoServer) -> int | None:
    """The server's core, while it has one; a spare one is younger."""
    for child in sorted(psutil.Process(server.process.pid).children(), key=lambda process: process.create_time()):
        try:
            if "octavo.core.process" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                return child.pid
        except psutil.NoSuchProcess:
            continue
    return None


@dataclass
class Report:
    """What a run has shown."""

    kills: int = 0
    answers: int = 0
    wrong: list[str] = field(default_factory=list)
    kill_times: list[float] = field(default_factory=list)
    chunk_times: list[float] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)

    def pauses(self) -> list[float]:
        """The longest silence over all streams after each kill, in seconds; kills in one silence are one pause.

        What the dead core sent still comes for a moment, so the silence that a kill falls into may not be the one it made.
        """
        gaps = list(zip(self.chunk_times, self.chunk_times[1:], strict=False))
        longest: set[tuple[float, float]] = set()
        for killed, following in zip(self.kill_times, [*self.kill_times[1:], math.inf], strict=True):
            first = bisect.bisect_right(self.chunk_times, killed) - 1
            last = bisect.bisect_left(self.chunk_times, following)
            longest |= set(sorted(gaps[max(0, first) : last], key=lambda gap: gap[1] - gap[0])[-1:])
        return [after - before for before, after in longest]

    def text(self) -> str:
        pauses = sorted(self.pauses())
        median = f"{statistics.median(pauses):.2f} s (longest {pauses[-1]:.2f} s)" if pauses else "-"
        return (
            f"{self.kills} kills of the core, {len(pauses)} of one that served; {self.answers} streams ended, "
            f"{len(self.wrong)} lost or changed; median pause {median}; left behind: {self.left_behind or 'nothing'}"
        )


async def run(server: OctavoServer, kills: int, max_tokens: int, seed: int, longest_delay: float = LONGEST_DELAY) -> Report:
    """Kill the core `kills` times while 16 streams run, and compare every stream."""
    report, rng = Report(), random.Random(seed)
    requests = bodies(max_tokens)
    stop = asyncio.Event()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, read_bufsize=2**24) as session:
        expected = await asyncio.gather(*(ask(session, server.url, body) for body in requests))
        for answer in expected:
            assert answer.done, answer.error

        async def stream(number: int) -> None:
            while not stop.is_set():
                answer = await ask(session, server.url, requests[number], lambda: report.chunk_times.append(time.monotonic()))
                report.answers += 1
                if answer != expected[number]:
                    report.wrong.append(_difference(number, answer, expected[number]))

        streams = [asyncio.create_task(stream(number)) for number in range(NUM_STREAMS)]
        await _kill_often(server, report, rng, kills, longest_delay)
        stop.set()
        await asyncio.gather(*streams)
    return report


async def _kill_often(server: OctavoServer, report: Report, rng: random.Random, kills: int, longest_delay: float) -> None:
    killed = None
    while report.kills < kills:
        pid = await asyncio.to_thread(_new_core, server, killed)
        if rng.random() >= EARLY:
            num_chunks = len(report.chunk_times)
            while len(report.chunk_times) == num_chunks and server.process.poll() is None:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await asyncio.sleep(rng.uniform(0.0, longest_delay))
        os.kill(pid, signal.SIGKILL)
        report.kill_times.append(time.monotonic())
        report.kills += 1
        killed = pid
        if report.kills % 10 == 0:
            print(report.text(), flush=True)


def _new_core(server: OctavoServer, killed: int | None) -> int:
    """Wait for the core that follows the killed one."""
    while (pid := core_pid(server)) is None or pid == killed:
        assert server.process.poll() is None, server.log_tail()
        time.sleep(0.005)
    return pid


def _difference(number: int, got: Answer, expected: Answer) -> str:
    """Where an answer is not what it should be."""
    if got.error:
        return f"stream {number}: {got.error}"
    for name in vars(expected):
        if getattr(got, name) != getattr(expected, name):
            return f"stream {number}, {name}: {getattr(got, name)!r:.300} instead of {getattr(expected, name)!r:.300}"
    return f"stream {number}: no difference found"


def kill_and_report(model: str | os.PathLike[str], kills: int, max_tokens: int, seed: int, **options: Any) -> Report:
    """Start a server, torment it, stop it, and look for what it left."""
    flags = options.pop("flags", [])
    with tempfile.TemporaryDirectory(prefix="octavo-kills-") as scratch:
        server = OctavoServer(model, flags, env={"TMPDIR": scratch}, stop_timeout=120.0)
        with server:
            report = asyncio.run(run(server, kills, max_tokens, seed, **options))
            family = psutil.Process(server.process.pid).children(recursive=True)
            sockets = sorted(Path(scratch).iterdir())
            if len(sockets) > 1:
                report.left_behind += [f"sockets of dead cores: {sockets}"]
        _, alive = psutil.wait_procs(family, timeout=30)
        report.left_behind += [f"process {process.pid}" for process in alive]
        report.left_behind += [str(path) for path in Path(scratch).iterdir()]
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--model", help="unset = a tiny random one")
    parser.add_argument("--max-tokens", type=int, default=200)
    parser.add_argument("--longest-delay", type=float, default=LONGEST_DELAY)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="octavo-tiny-") as folder:
        model = args.model
        if model is None:
            from tiny_models import make_tiny_llama

            make_tiny_llama(Path(folder))
            model = folder
        report = kill_and_report(model, args.kills, args.max_tokens, args.seed, longest_delay=args.longest_delay)
    print("\n".join([*report.wrong[:20], report.text()]))
    return 1 if report.wrong or report.left_behind else 0


if __name__ == "__main__":
    sys.exit(main())
