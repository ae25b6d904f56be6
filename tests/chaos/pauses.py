"""Stops the core of a running server, its frontend, or both, under streams that must not notice, and lets them go on.

    python tests/chaos/pauses.py [--seconds 10 35 60] [--model MODEL]

Every stream is compared with what the same request gave without a pause; afterwards the server must answer as before,
hold nothing, and stop with 0.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from servers import OctavoServer

from octavo.sources.model_source import DEFAULT_MODEL, find_model

Target = Literal["core", "frontend", "both"]
TARGETS: tuple[Target, ...] = ("core", "frontend", "both")
STREAM_TIMEOUT = 600.0
SETTLE_TIMEOUT = 10.0
"""Seconds in which the gauges must have heard that nothing runs any more."""
BODIES: tuple[dict[str, Any], ...] = (
    {"prompt": "The capital of France is", "temperature": 0},
    {"prompt": "Once upon a time", "temperature": 0.9, "seed": 7},
    {"prompt": "1, 2, 3,", "temperature": 1.0, "seed": 3, "n": 3},
    {"prompt": "Name three rivers:", "temperature": 0, "logprobs": 1},
)


@dataclass
class Outcome:
    """One pause: what was stopped, for how long, and everything that was not as it should be."""

    target: Target
    seconds: float
    faults: list[str]

    def text(self) -> str:
        said = "; ".join(self.faults) if self.faults else f"{len(BODIES)} streams as without a pause"
        return f"{self.target:>8} stopped for {self.seconds:g} s: {said}"


def core_pid(server: OctavoServer) -> int:
    """The engine core of a server. Cores after the first are children of another thread than the main one."""
    threads = Path(f"/proc/{server.process.pid}/task").glob("*/children")
    children = [pid for thread in threads for pid in thread.read_text().split()]
    return next(int(pid) for pid in children if b"octavo.core" in Path(f"/proc/{pid}/cmdline").read_bytes())


def pause_and_report(model: Path | str, pauses: list[tuple[Target, float]], max_tokens: int) -> list[Outcome]:
    """Run one server through all pauses.

    Raises:
        AssertionError: it did not stop with 0 in the end.
    """
    with OctavoServer(model) as server:
        return asyncio.run(_run(server, pauses, max_tokens))


async def _run(server: OctavoServer, pauses: list[tuple[Target, float]], max_tokens: int) -> list[Outcome]:
    timeout = aiohttp.ClientTimeout(STREAM_TIMEOUT)
    async with aiohttp.ClientSession(server.url, timeout=timeout) as session:
        expected = await asyncio.gather(*(_stream(session, body, max_tokens) for body in BODIES))
        return [Outcome(t, s, await _pause(server, session, t, s, max_tokens, expected)) for t, s in pauses]


async def _pause(
    server: OctavoServer, session: aiohttp.ClientSession, target: Target, seconds: float, max_tokens: int, expected: list[Any]
) -> list[str]:
    pids = {"core": [core_pid(server)], "frontend": [server.process.pid], "both": [core_pid(server), server.process.pid]}[
        target
    ]
    begun = asyncio.Event()
    streams = [asyncio.create_task(_stream(session, body, max_tokens, begun)) for body in BODIES]
    await begun.wait()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        late = asyncio.create_task(_stream(session, BODIES[0], max_tokens))  # sent while nobody is there
        await asyncio.sleep(seconds)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    answers = await asyncio.gather(*streams, late, return_exceptions=True)
    faults = [
        f"stream {number} gave {answer!r:.300}, not {wanted!r:.300}"
        for number, (answer, wanted) in enumerate(zip(answers, [*expected, expected[0]], strict=True))
        if answer != wanted
    ]
    try:
        return faults + await _faults_of(server, session)
    except aiohttp.ClientError as error:
        return [*faults, f"the server does not answer: {error!r}; exit code {server.process.poll()}"]


async def _faults_of(server: OctavoServer, session: aiohttp.ClientSession) -> list[str]:
    """What is wrong with a server that should be well and idle."""
    faults = []
    for path in ("/livez", "/readyz", "/health"):
        async with session.get(path) as response:
            if response.status != 200:
                faults.append(f"{path} says {response.status}")
    deadline = time.monotonic() + SETTLE_TIMEOUT
    while (held := await _held(session)) and time.monotonic() < deadline:  # noqa: ASYNC110  (the server tells nobody)
        await asyncio.sleep(0.1)
    faults += held
    if server.process.poll() is not None:
        faults.append(f"the server ended with {server.process.returncode}")
    return faults


async def _held(session: aiohttp.ClientSession) -> list[str]:
    """The gauges that are not zero."""
    async with session.get("/metrics") as response:
        text = await response.text()
    names = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
    found = {name: re.search(rf"^octavo:{name}\S* (\S+)$", text, re.MULTILINE) for name in names}
    return [f"{name} is {value and value[1]}" for name, value in found.items() if value is None or float(value[1]) != 0]


async def _stream(
    session: aiohttp.ClientSession, body: dict[str, Any], max_tokens: int, begun: asyncio.Event | None = None
) -> dict[int, list[int]]:
    """Token ids by choice; sets `begun` when the first come."""
    whole = {**body, "stream": True, "ignore_eos": True, "return_token_ids": True, "max_tokens": max_tokens}
    tokens: dict[int, list[int]] = {}
    async with session.post("/v1/completions", json=whole) as response:
        assert response.status == 200, await response.text()
        async for line in response.content:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line.removeprefix(b"data: "))
            assert "error" not in event, event
            for choice in event["choices"]:
                tokens.setdefault(choice["index"], []).extend(choice.get("token_ids") or [])
            if begun is not None:
                begun.set()
    return tokens


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, nargs="+", default=[10, 35, 60])
    parser.add_argument("--model", help="the default model if left out")
    parser.add_argument("--max-tokens", type=int, default=1000)
    options = parser.parse_args()
    pauses: list[tuple[Target, float]] = [(target, seconds) for seconds in options.seconds for target in TARGETS]
    model = options.model or find_model(DEFAULT_MODEL).path
    outcomes = pause_and_report(model, pauses, options.max_tokens)
    print("\n".join(outcome.text() for outcome in outcomes))
    return 1 if any(outcome.faults for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
