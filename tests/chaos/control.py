"""The honest client beside the hostile ones: the same greedy stream again and again, which must never change."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import aiohttp


class Control:
    """Streams one completion in a loop, and holds every round against the first.

    Attributes:
        rounds: how many were as the first one.
        faults: what was wrong with the others, by kind.
    """

    def __init__(
        self, session: aiohttp.ClientSession, url: str, model: str | None, tokens: int, timeout: float = 120.0
    ) -> None:
        self._session, self._url, self._timeout = session, url + "/v1/completions", timeout
        self._tokens = tokens
        self._body: dict[str, Any] = {
            "prompt": "The quick brown fox", "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True,
            "return_token_ids": True,
        }  # fmt: skip
        if model:
            self._body["model"] = model
        self.rounds = 0
        self.faults: Counter[str] = Counter()
        self._expected: list[Any] = []

    async def start(self) -> None:
        """Take the first round as the right one.

        Raises:
            RuntimeError: the server does not even serve an honest client.
        """
        self._expected, fault = await self._round()
        if fault or not self._expected:
            raise RuntimeError(f"the control stream failed before the first hostile input: {fault or 'no tokens'}")

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            await self.check()
            await asyncio.sleep(0.05)

    async def check(self) -> None:
        """One round more."""
        tokens, fault = await self._round()
        if fault:
            self.faults[fault] += 1
            await asyncio.sleep(0.5)
        elif tokens != self._expected:
            self.faults["other tokens"] += 1
        else:
            self.rounds += 1

    async def _round(self) -> tuple[list[Any], str]:
        """Tokens of a stream (its text where a server sends no ids), and what went wrong."""
        ids: list[int] = []
        text = ""
        try:
            async with asyncio.timeout(self._timeout), self._session.post(self._url, json=self._body) as response:
                if response.status != 200:
                    return [], f"status {response.status}"
                async for line in response.content:
                    if not line.startswith(b"data: {"):
                        continue
                    event = json.loads(line[6:])
                    if "choices" not in event:
                        return [], "an error in the stream"
                    for choice in event["choices"]:
                        ids += choice.get("token_ids") or []
                        text += choice.get("text") or ""
        except (aiohttp.ClientError, TimeoutError) as error:
            return [], type(error).__name__
        return [ids or text], ""
