"""1,000 requests at concurrency 64, many of them dropped half-way: every block comes back and nothing grows."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import aiohttp
import pytest
from chaos.watch import Watch
from servers import OctavoServer

REQUESTS = 1000
CONCURRENCY = 64


async def _one(session: aiohttp.ClientSession, url: str, rng: random.Random) -> None:
    body = {
        "prompt": [rng.randrange(3, 400) for _ in range(rng.randrange(1, 200))],
        "max_tokens": rng.randrange(1, 80),
        "temperature": rng.choice([0, 1]),
        "stream": rng.random() < 0.5,
        "ignore_eos": True,
    }
    patience = rng.choice([None, None, 0.02, 0.1, 0.5])
    try:
        async with asyncio.timeout(patience), session.post(f"{url}/v1/completions", json=body) as response:
            assert response.status == 200
            await response.read()
    except TimeoutError:
        pass  # the client has gone away: that is the point


async def _load(url: str, count: int, seed: int) -> None:
    rng = random.Random(seed)
    gate = asyncio.Semaphore(CONCURRENCY)

    async def guarded() -> None:
        async with gate:
            await _one(session, url, rng)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY)) as session:
        await asyncio.gather(*(guarded() for _ in range(count)))


async def _settled(watch: Watch) -> int:
    """Memory once nothing runs any more; raises AssertionError when that takes too long."""
    async with aiohttp.ClientSession() as session:
        for _ in range(300):
            busy = await watch.busy(session)
            if not busy:
                return watch.memory()
            await asyncio.sleep(0.1)
    raise AssertionError(f"still busy: {busy}")


@pytest.mark.timeout(600)
def test_soak(tiny_model_dir: Path) -> None:
    # A cache small enough that the first load has touched all of it.
    with OctavoServer(tiny_model_dir, ["--dtype", "float32", "--kv-cache-memory-bytes", "16M"]) as server:
        watch = Watch(server.url, server.process.pid)
        asyncio.run(_load(server.url, REQUESTS, seed=0))
        before = asyncio.run(_settled(watch))
        asyncio.run(_load(server.url, REQUESTS, seed=1))
        after = asyncio.run(_settled(watch))
        assert after - before < 20 * 2**20, f"{before / 2**20:.0f} MiB before, {after / 2**20:.0f} MiB after"
    print(f"{before / 2**20:.1f} MiB before, {after / 2**20:.1f} MiB after")
