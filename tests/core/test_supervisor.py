"""Cores that die and are started again: real processes with the fake executor."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from core_configs import make_config, make_request
from fake_executor import expected_tokens

from octavo.core.client import CoreClient
from octavo.core.death import Death, OomKills, judge
from octavo.core.supervisor import WINDOW, CoreSupervisor, RestartLimit
from octavo.errors import EngineDeadError
from octavo.wire.messages import Ready

FAKE_CORE = (sys.executable, str(Path(__file__).parent / "fake_core.py"))
OUTSIDE, ITSELF = Death("", True), Death("", False)

Supervise = Callable[..., CoreSupervisor]


@pytest.fixture
def supervise() -> Iterator[Supervise]:
    made = []

    def make(max_restarts: int = 3, spare: bool = False, **config: object) -> CoreSupervisor:
        client = CoreClient(make_config(**config))  # type: ignore[arg-type]
        client.command = FAKE_CORE
        client.spawn()
        client.wait_ready(timeout=60)
        made.append(CoreSupervisor(client, max_restarts, spare))
        return made[-1]

    yield make
    for supervisor in made:
        supervisor.close()


def socket_directory(client: CoreClient) -> Path:
    return Path(client.addresses.input.removeprefix("ipc://")).parent


async def kill(supervisor: CoreSupervisor, number: int = signal.SIGKILL) -> None:
    assert supervisor.client.ready is not None
    os.kill(supervisor.client.ready.pid, number)
    with pytest.raises(EngineDeadError):
        await asyncio.wait_for(supervisor.client.outputs(), 30)


async def replace(supervisor: CoreSupervisor) -> tuple[Death, Ready]:
    return await supervisor.bury(), await supervisor.start()


async def test_another_core_takes_the_place_of_a_dead_one(supervise: Supervise) -> None:
    supervisor = supervise(fit_max_model_len=True, max_model_len=1000)
    first = supervisor.client
    assert first.ready is not None
    await kill(supervisor)
    death, ready = await replace(supervisor)
    assert death.from_outside
    assert "SIGKILL" in death.reason
    second = supervisor.client
    assert second is not first
    assert ready.pid != first.ready.pid
    assert not socket_directory(first).exists(), "its sockets are gone"
    assert (second.config.cache.num_blocks, second.config.model.max_model_len) == (64, 256), "the sizes stay"
    second.add(make_request("r", [1, 2], 5))
    tokens: list[int] = []
    while len(tokens) < 5:
        tokens += [token for update in (await second.outputs()).all_updates() for token in update.new_token_ids]
    assert tokens == expected_tokens([1, 2], 5, 0, 50)


async def test_a_core_killed_while_it_starts_is_replaced_too(supervise: Supervise, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = supervise(max_restarts=1)
    for _ in range(3):
        await kill(supervisor)
        await supervisor.bury()
        monkeypatch.setenv("FAKE_CORE", "hang")
        starting = asyncio.create_task(supervisor.start())
        dead = supervisor.client
        while supervisor.client is dead or supervisor.client._process is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        monkeypatch.delenv("FAKE_CORE")
        os.kill(supervisor.client._process.pid, signal.SIGKILL)
        assert await asyncio.wait_for(starting, 60)


async def test_what_cannot_start_again_says_why(supervise: Supervise, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = supervise()
    await kill(supervisor)
    await supervisor.bury()
    monkeypatch.setenv("FAKE_CORE", "fail")
    with pytest.raises(EngineDeadError, match="--made-up-flag is too small"):
        await supervisor.start()
    assert supervisor.client.dead


async def test_a_core_that_ends_by_itself_is_started_so_often_and_no_more(
    supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = supervise(max_restarts=2)
    await kill(supervisor)
    await supervisor.bury()
    monkeypatch.setenv("FAKE_CORE", "exit")
    with pytest.raises(EngineDeadError, match=r"exited with code 3.*2 times in 10 minutes.*--max-core-restarts"):
        await supervisor.start()


async def test_crashes_count_and_kills_do_not(supervise: Supervise) -> None:
    supervisor = supervise(max_restarts=1)
    for number in (signal.SIGKILL, signal.SIGABRT, signal.SIGKILL, signal.SIGTERM):
        await kill(supervisor, number)
        death, _ = await replace(supervisor)
        assert death.from_outside == (number != signal.SIGABRT)
    await kill(supervisor, signal.SIGSEGV)
    with pytest.raises(EngineDeadError, match="SIGSEGV"):
        await supervisor.bury()


async def test_none_is_started_when_none_may_be(supervise: Supervise) -> None:
    supervisor = supervise(max_restarts=0)
    assert not supervisor.may_restart
    await kill(supervisor)
    with pytest.raises(EngineDeadError, match="SIGKILL"):
        await supervisor.bury()


async def test_a_client_that_joined_a_core_does_not_start_another(supervise: Supervise) -> None:
    core = supervise()
    other = CoreClient(make_config())
    other.attach(core.client.addresses)
    await asyncio.to_thread(other.wait_ready, None, 60)
    assert not CoreSupervisor(other, 3).may_restart
    other.close()


async def test_closing_ends_a_start_under_way(supervise: Supervise, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = supervise()
    await kill(supervisor)
    await supervisor.bury()
    monkeypatch.setenv("FAKE_CORE", "hang")
    starting = asyncio.create_task(supervisor.start())
    await asyncio.sleep(0.3)
    await asyncio.to_thread(supervisor.close)
    with pytest.raises(EngineDeadError, match="shut down"):
        await asyncio.wait_for(starting, 30)
    with pytest.raises(EngineDeadError):
        await supervisor.start()


async def test_a_spare_core_is_the_next_one(supervise: Supervise) -> None:
    supervisor = supervise(spare=True)
    for _ in range(2):
        await kill(supervisor)
        spare = supervisor._spare
        assert spare is not None
        assert spare._process is not None
        waiting = spare._process.pid
        _, ready = await replace(supervisor)
        assert ready.pid == waiting
    assert supervisor._spare is not None
    assert supervisor._spare._process is not None
    left = supervisor._spare._process.pid
    await asyncio.to_thread(supervisor.close)
    assert not psutil.pid_exists(left)


@pytest.mark.parametrize(
    ("exit_code", "failure", "oom", "from_outside"),
    [
        (-signal.SIGKILL, None, False, True),
        (-signal.SIGKILL, None, True, False),
        (-signal.SIGTERM, None, True, True),
        (-signal.SIGSEGV, None, False, False),
        (-signal.SIGABRT, None, False, False),
        (0, None, False, True),
        (1, None, False, False),
        (1, "3 steps failed", False, False),
        (None, "3 steps failed", False, False),
        (None, None, False, True),
    ],
)
def test_who_ended_a_core(
    monkeypatch: pytest.MonkeyPatch, exit_code: int | None, failure: str | None, oom: bool, from_outside: bool
) -> None:
    kills = OomKills()
    monkeypatch.setattr(kills, "happened", lambda: oom)
    assert judge("it died", exit_code, failure, kills).from_outside == from_outside


def test_memory_kills_are_seen_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from octavo.core import death

    events = tmp_path / "memory.events"
    events.write_text("low 0\noom 7\noom_kill 3\noom_group_kill 0\n")
    monkeypatch.setattr(death, "_groups", lambda: [tmp_path / "missing", events])
    kills = OomKills()
    assert not kills.happened()
    events.write_text("low 0\noom 9\noom_kill 4\n")
    assert kills.happened()
    assert not kills.happened()


def test_only_deaths_of_late_count() -> None:
    limit = RestartLimit(2)
    assert all(limit.allows(OUTSIDE, float(now)) for now in range(100))
    assert limit.allows(ITSELF, 100.0)
    assert limit.allows(ITSELF, 101.0)
    assert limit.allows(OUTSIDE, 102.0)
    assert not RestartLimit(0).allows(ITSELF, 0.0)
    assert limit.allows(ITSELF, 101.0 + WINDOW), "the first is forgotten"
    assert not limit.allows(ITSELF, 101.5 + WINDOW - 1.0)
