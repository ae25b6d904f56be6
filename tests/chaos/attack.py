"""An attack: inputs one after another or several at once, with eyes on the server and an honest client beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import groupby, islice

import aiohttp
from chaos.control import Control
from chaos.inputs import Input
from chaos.judge import Judge
from chaos.report import FamilyReport, Report, mib
from chaos.send import Result, send
from chaos.watch import Turns, Watch

SLOW_TURN = 0.1
"""Seconds of its thread's processor time that a turn of the event loop may take."""
BATCH = 200
"""Generated inputs between two looks at the server."""
WEIGHING = 1.0
"""Seconds between two looks at memory, which take some milliseconds."""
PROMPTS = 40
"""Prompts of 1,000 tokens in the warm-up, all different."""
SHOWN = 20
"""Faults of a kind in a family that are told at once; all of them are in the report."""
REST = 60.0
"""Seconds that counts have to come back to zero."""
SETTLING = 20.0
"""Seconds that memory has to come back."""

_NO_HURRY = aiohttp.ClientTimeout(total=600)

Say = Callable[[str], None]


class ServerGoneError(Exception):
    """The server's process has ended: there is nothing left to attack."""


class Attack:
    """One run against one server.

    Args:
        judge: what counts as wrong.
        concurrency: generated inputs at once; inputs written by hand come one at a time, so that a fault has one name.
        patience: seconds without an answer after which the server counts as hanging.
        say: called with lines of progress.
        seconds: time for the whole attack; no further input is sent after it.
        show: tell of every input what was sent and answered.
    """

    def __init__(
        self,
        watch: Watch,
        judge: Judge,
        report: Report,
        *,
        concurrency: int,
        patience: float,
        say: Say,
        show: bool = False,
        seconds: float = float("inf"),
    ) -> None:
        self._watch, self._judge, self._report = watch, judge, report
        self._concurrency, self._patience, self._say, self._show = concurrency, patience, say, show
        self._weighed = 0.0
        self._stop_at = time.monotonic() + seconds

    @asynccontextmanager
    async def beside(self, control: Control, session: aiohttp.ClientSession) -> AsyncIterator[None]:
        """The attack is the block: before it memory is read and the control stream begins, behind it the books are closed."""
        self._session = session
        await control.start()
        report, watch = self._report, self._watch
        report.memory_before = report.memory_peak = watch.memory()
        self._turns = await watch.turns(session)
        honest = asyncio.create_task(control.run())
        try:
            yield
            await control.check()
        except ServerGoneError:
            self._say("the server is gone")
            return
        finally:
            honest.cancel()
            with suppress(asyncio.CancelledError):
                await honest
            report.faults += self._judge.faults_of_all()
            report.control_rounds, report.control_faults = control.rounds, dict(control.faults)
            report.ended = watch.ended()
        report.busy = await self._counts_at_rest()
        report.memory_after = await self._memory_at_rest()
        turns = await self._own_turns()
        report.own_longest_turn = turns.longest if turns else None

    async def warm_up(
        self, session: aiohttp.ClientSession, inputs: Iterator[Input], model: str | None = None, prompts: int = PROMPTS
    ) -> None:
        """Before memory is first read: prompts that touch the cache's blocks, and some inputs unjudged, each a first of its kind."""
        for i in range(prompts):
            start, step = i % 250, 1 + 2 * (i // 250)  # no two begin alike, so that none is found in the cache
            body: dict[str, object] = {
                "prompt": [5 + (start + step * j) % 250 for j in range(1000)],
                "max_tokens": 4,
                "temperature": 0,
            }
            body |= {"model": model} if model else {}
            async with session.post(f"{self._watch.url}/v1/completions", json=body, timeout=_NO_HURRY) as response:
                await response.read()
        while batch := list(islice(inputs, self._concurrency)):
            await asyncio.gather(*(send(self._watch.host, self._watch.port, item, self._patience) for item in batch))

    async def one_by_one(self, inputs: Iterable[Input]) -> None:
        """Inputs written by hand. Those whose client is slow wait side by side.

        Raises:
            ServerGoneError: the server's process has ended.
        """
        for family, group in groupby(inputs, lambda item: item.family):
            items = list(group)
            self._say(f"{family}: {len(items)} inputs; memory is {mib(self._watch.memory())}")
            for some in [items] if family == "slow" else [[item] for item in items]:
                if self._time_is_up():
                    return
                slow = await self._attack(some)
                if slow is not None:
                    self._blame(some, slow)

    async def many(self, inputs: Iterator[Input]) -> None:
        """Generated inputs, a batch after another; the inputs of a batch with a slow turn are tried alone.

        Raises:
            ServerGoneError: the server's process has ended.
        """
        done = 0
        while not self._time_is_up() and (batch := list(islice(inputs, BATCH))):
            slow = await self._attack(batch)
            if slow is not None:
                await self._find_slow(batch, slow)
            done += len(batch)
            if done % (10 * BATCH) == 0:
                self._say(
                    f"{batch[0].family}: {done} inputs, {len(self._report.faults)} faults so far; memory is {mib(self._watch.memory())}"
                )

    async def _attack(self, items: list[Input]) -> float | None:
        """Send all, judge all; returns the longest turn meanwhile when it was a slow one."""
        family = self._report.family(items[0].family)
        began = time.monotonic()
        results = await self._send(items, len(items) if items[0].family == "slow" else self._concurrency)
        ended = time.monotonic()
        family.seconds += ended - began
        for result in results:
            self._book(result)
        if not self._watch.alive():
            raise ServerGoneError
        return await self._look(family, began, ended)

    async def _send(self, items: list[Input], concurrency: int) -> list[Result]:
        gate = asyncio.Semaphore(max(concurrency, *(item.copies for item in items)))

        async def one(item: Input) -> Result:
            async with gate:
                return await send(self._watch.host, self._watch.port, item, self._patience)

        return await asyncio.gather(*(one(item) for item in items for _ in range(item.copies)))

    def _time_is_up(self) -> bool:
        if time.monotonic() < self._stop_at:
            return False
        self._say("the time is up")
        return True

    def _book(self, result: Result) -> None:
        family = self._report.family(result.input.family)
        family.inputs += 1
        for answer in result.answers or (None,):
            family.statuses["none" if answer is None else f"{answer.status // 100}xx"] += 1
        if self._show:
            self._say(f"{result.input}\n  sent {result.input.make()!r:.2000}\n  answered {result.answers!r:.2000}")
        for fault in self._judge.faults(result):
            family.faults[fault.kind] += 1
            self._report.faults.append(fault)
            if family.faults[fault.kind] <= SHOWN:
                self._say(f"  {fault.kind}: {fault.input}: {fault.detail[:300]}")

    async def _look(self, family: FamilyReport, began: float, ended: float) -> float | None:
        """Read the server's dials after inputs of a family; returns the longest turn when it was a slow one."""
        await asyncio.sleep(0.02)
        # A question at the end of a long turn is answered after it.
        for _ in range(50):
            if self._watch.probes and self._watch.probes[-1].asked > ended:
                break
            await asyncio.sleep(0.02)
        probes = self._watch.probes_between(began, ended)
        longest = max((probe.computed for probe in probes), default=0.0)
        family.longest_turn = max(family.longest_turn, longest)
        family.slowest_probe = max(family.slowest_probe, max((probe.took for probe in probes), default=0.0))
        if ended - self._weighed > WEIGHING:
            self._weighed = ended
            self._report.memory_peak = max(self._report.memory_peak, self._watch.memory())
        before, self._turns = self._turns, await self._own_turns()
        if before is not None and self._turns is not None:
            # The server knows better than somebody who looks from outside.
            return max(longest, SLOW_TURN) if self._turns.slow > before.slow else None
        return longest if longest > SLOW_TURN else None

    async def _own_turns(self) -> Turns | None:
        try:
            return await self._watch.turns(self._session)
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def _find_slow(self, batch: list[Input], slow: float) -> None:
        """Blame the inputs of a batch that take such a turn when they are alone; all of them together if none does."""
        blamed = False
        for item in batch:
            began = time.monotonic()
            await self._send([item], 1)
            alone = await self._look(FamilyReport(), began, time.monotonic())
            if alone is not None:
                self._blame([item], alone)
                blamed = True
        if not blamed:
            self._blame([batch[0], batch[-1]], slow, "some of these and those between them, none alone")

    def _blame(self, items: list[Input], slow: float, how: str = "") -> None:
        text = f"{slow * 1e3:.0f} ms: {', '.join(item.name for item in items)} {how}".rstrip()
        self._report.family(items[0].family).slow_turns.append(text)
        self._say(f"  slow turn of {text}")

    async def _counts_at_rest(self) -> dict[str, float]:
        deadline = time.monotonic() + REST
        while True:
            try:
                busy = await self._watch.busy(self._session)
            except (aiohttp.ClientError, TimeoutError) as error:
                busy = {f"no answer from /metrics: {type(error).__name__}": 1.0}
            if not busy or time.monotonic() > deadline:
                return busy
            await asyncio.sleep(0.2)

    async def _memory_at_rest(self) -> int:
        """The least of some seconds: what garbage collection and allocators give back may take a while."""
        deadline = time.monotonic() + SETTLING
        least = self._watch.memory()
        while least > self._report.memory_before and time.monotonic() < deadline:
            await asyncio.sleep(0.5)
            least = min(least, self._watch.memory())
        self._say(f"memory: {mib(self._report.memory_before)} before, {mib(least)} after")
        return least
