"""2,000 hostile requests beside one honest client: everything is answered, and the honest client notices nothing."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from chaos import mutations
from servers import OctavoServer

REQUESTS = 2000
CONCURRENCY = 8
CONTROL = {
    "prompt": "The quick brown fox",
    "max_tokens": 200,
    "temperature": 0,
    "ignore_eos": True,
    "return_token_ids": True,
    "stream": True,
}


async def _control_tokens(session: aiohttp.ClientSession, url: str) -> list[int]:
    tokens: list[int] = []
    async with session.post(f"{url}/v1/completions", json=CONTROL) as response:
        assert response.status == 200
        async for line in response.content:
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    tokens += choice.get("token_ids") or []
    return tokens


async def _attack(session: aiohttp.ClientSession, url: str, jobs: Any, answers: Counter[int], wrong: list[Any]) -> None:
    for path, body in jobs:
        async with session.post(url + path, data=body, headers={"Content-Type": "application/json"}) as response:
            text = await response.read()
            answers[response.status] += 1
            if not (response.status == 200 or 400 <= response.status < 500) or (
                response.status >= 400 and "error" not in json.loads(text)
            ):
                wrong.append((response.status, path, body[:300], text[:300]))


async def _fuzz(server: OctavoServer) -> tuple[Counter[int], list[Any], int]:
    answers: Counter[int] = Counter()
    wrong: list[Any] = []
    rounds = 0
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        expected = await _control_tokens(session, server.url)
        assert len(expected) == CONTROL["max_tokens"]
        jobs = mutations.requests(seed=1, count=REQUESTS)
        attackers = [asyncio.create_task(_attack(session, server.url, jobs, answers, wrong)) for _ in range(CONCURRENCY)]
        while not all(task.done() for task in attackers):
            assert await _control_tokens(session, server.url) == expected
            rounds += 1
        await asyncio.gather(*attackers)
        assert await _control_tokens(session, server.url) == expected
    return answers, wrong, rounds


@pytest.mark.timeout(600)
def test_fuzz(tiny_model_dir: Path) -> None:
    with OctavoServer(tiny_model_dir, ["--dtype", "float32"]) as server:
        processes = psutil.Process(server.process.pid).children(recursive=True)
        answers, wrong, rounds = asyncio.run(_fuzz(server))
        assert not wrong, wrong[:5]
        assert sum(answers.values()) == REQUESTS
        assert answers[400] > REQUESTS // 4
        assert answers[200] > 50
        assert rounds > 0
        assert psutil.Process(server.process.pid).children(recursive=True) == processes
    print(f"answers {dict(answers)}, control rounds {rounds}")
