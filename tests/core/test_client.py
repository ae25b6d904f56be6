"""Client and core process, for real: processes, sockets, deaths."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop
import zmq
from core_configs import make_config, make_request
from fake_executor import expected_tokens

from octavo.core.client import CoreClient
from octavo.core.transport import make_socket
from octavo.errors import EngineDeadError, EngineStartError, OctavoError
from octavo.wire.messages import CoreOutputs, FinishReason, Progress

HERE = Path(__file__).parent
HANG_GUARD = 120.0
"""Seconds after which what does not come is called a hang: a loaded machine is no fault."""
FAKE_CORE = (sys.executable, str(HERE / "fake_core.py"))


@pytest.fixture
def make_client() -> Iterator[Callable[..., CoreClient]]:
    clients = []

    def make(**config: object) -> CoreClient:
        client = CoreClient(make_config(**config))
        client.command = FAKE_CORE
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(make_client: Callable[..., CoreClient]) -> CoreClient:
    client = make_client()
    client.spawn()
    client.wait_ready(timeout=HANG_GUARD)
    return client


async def generate(client: CoreClient, request_id: str, prompt: list[int], count: int) -> list[int]:
    """Tokens of one request; the only user of `outputs`."""
    client.add(make_request(request_id, prompt, count))
    tokens: list[int] = []
    while True:
        for update in (await client.outputs()).all_updates():
            assert update.request_id == request_id
            tokens += update.new_token_ids
            if update.finish_reason is not None:
                assert update.finish_reason is FinishReason.LENGTH
                return tokens


def test_start_with_progress_then_requests_and_calls(
    make_client: Callable[..., CoreClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CORE", "gradual")
    client = make_client()
    client.spawn()
    seen: list[Progress] = []
    ready = client.wait_ready(seen.append, timeout=HANG_GUARD)
    assert "weights" in [progress.phase for progress in seen]
    assert [p.elapsed for p in seen] == sorted(p.elapsed for p in seen)
    assert list(ready.phases) == ["process", "imports", "weights", "kv cache"]
    assert (ready.num_blocks, ready.block_size, ready.max_model_len) == (64, 4, 64)
    directory = client.addresses.input.removeprefix("ipc://").rpartition("/")[0]
    assert os.path.isdir(directory)

    async def talk() -> None:
        assert await generate(client, "r", [1, 2, 3], 20) == expected_tokens([1, 2, 3], 20, 0, 50)
        assert await client.call("ping") is None
        assert (await client.call("stats"))["num_free_blocks"] == 64
        with pytest.raises(OctavoError, match="unknown method"):
            await client.call("nonsense")

    for run in (asyncio.run, uvloop.run):
        run(talk())
    client.close()
    client.close()
    assert client.dead
    assert not os.path.exists(directory)


async def test_requests_interleave_and_abort_stops_one(client: CoreClient) -> None:
    client.add(make_request("long", [1], 60))
    client.add(make_request("short", [2], 5))
    client.abort(["long"])
    client.abort(["unknown"])
    tokens = []
    while len(tokens) < 5:
        tokens += [t for u in (await client.outputs()).all_updates() if u.request_id == "short" for t in u.new_token_ids]
    assert tokens == expected_tokens([2], 5, 0, 50)
    stats = await client.call("stats")
    assert stats["num_running"] == 0
    assert stats["num_free_blocks"] == stats["num_blocks"]


@pytest.mark.parametrize("use_uvloop", [False, True])
def test_killing_the_core_wakes_everyone(client: CoreClient, use_uvloop: bool) -> None:
    async def talk() -> None:
        outputs = asyncio.create_task(client.outputs())
        assert client.ready is not None
        os.kill(client.ready.pid, signal.SIGSTOP)
        call = asyncio.create_task(client.call("ping"))
        await asyncio.sleep(0.05)
        os.kill(client.ready.pid, signal.SIGKILL)
        for task in (outputs, call):
            with pytest.raises(EngineDeadError, match="SIGKILL"):
                await asyncio.wait_for(task, HANG_GUARD)
        assert client.dead
        with pytest.raises(EngineDeadError):
            client.add(make_request("r", [1]))
        with pytest.raises(EngineDeadError):
            await client.call("ping")
        client.abort(["r"])

    (uvloop.run if use_uvloop else asyncio.run)(talk())


async def test_a_stopped_core_blocks_nobody_and_what_lies_before_it_is_known(client: CoreClient) -> None:
    assert client.ready is not None
    await client.call("ping")
    assert client.backlog == 0
    os.kill(client.ready.pid, signal.SIGSTOP)
    try:
        for number in range(2000):
            client.add(make_request(f"r{number}", [1] * 60, 1))
            client.abort([f"r{number}"])
        ping = asyncio.create_task(client.call("ping", timeout=None))
        await asyncio.sleep(0.05)
        assert client.backlog > 2000 * 60
        assert not ping.done()
    finally:
        os.kill(client.ready.pid, signal.SIGCONT)
    await asyncio.wait_for(ping, 30)
    assert client.backlog == 0
    assert (await client.call("stats"))["num_running"] == 0


async def test_a_call_that_cannot_be_sent_waits_for_nothing(client: CoreClient) -> None:
    with pytest.raises(OverflowError):
        await client.call("ping", 2**70)
    assert client._calls == {}
    assert await client.call("ping") is None


async def test_close_wakes_whoever_waits(client: CoreClient) -> None:
    outputs = asyncio.create_task(client.outputs())
    await asyncio.sleep(0.05)
    await asyncio.to_thread(client.close)
    with pytest.raises(EngineDeadError, match="shut down"):
        await asyncio.wait_for(outputs, HANG_GUARD)


async def test_close_does_not_wait_for_a_step_that_never_ends(
    make_client: Callable[..., CoreClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CORE", "stuck")
    client = make_client()
    client.spawn()
    client.wait_ready(timeout=HANG_GUARD)
    client.add(make_request("r", [1]))
    await asyncio.sleep(0.1)
    with pytest.raises(TimeoutError):
        await client.call("ping", timeout=0.2)
    client.close(timeout=HANG_GUARD)
    process = client._process
    assert process is not None
    assert process.exit_code == 0, "it ended by itself"


@pytest.mark.parametrize(
    ("mode", "words"), [("fail", "--made-up-flag is too small"), ("exit", "exited with code 3"), ("hang", "not ready within")]
)
def test_a_core_that_does_not_start_says_why(
    make_client: Callable[..., CoreClient], monkeypatch: pytest.MonkeyPatch, mode: str, words: str
) -> None:
    monkeypatch.setenv("FAKE_CORE", mode)
    client = make_client()
    client.spawn()
    with pytest.raises(EngineStartError, match=words):
        client.wait_ready(timeout=3 if mode == "hang" else HANG_GUARD)


def test_a_cache_too_small_for_the_model_length_names_the_flag(make_client: Callable[..., CoreClient]) -> None:
    client = make_client(num_blocks=3)
    client.spawn()
    with pytest.raises(EngineStartError, match="--max-model-len"):
        client.wait_ready(timeout=HANG_GUARD)


async def test_two_clients_share_a_core_and_one_may_leave(client: CoreClient, make_client: Callable[..., CoreClient]) -> None:
    other = make_client()
    other.attach(client.addresses)
    assert await asyncio.to_thread(other.wait_ready, None, 60) == client.ready
    first, second = await asyncio.gather(generate(client, "same id", [1], 30), generate(other, "same id", [2], 30))
    assert first == expected_tokens([1], 30, 0, 50)
    assert second == expected_tokens([2], 30, 0, 50)
    other.add(make_request("endless", [3], 60))
    other.close()
    assert await generate(client, "after", [4], 10) == expected_tokens([4], 10, 0, 50)
    assert not client.dead


async def test_requests_of_a_client_that_vanished_are_aborted(
    make_client: Callable[..., CoreClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CORE", "slow")
    client, other = make_client(), make_client()
    client.spawn()
    client.wait_ready(timeout=HANG_GUARD)
    other.attach(client.addresses)
    await asyncio.to_thread(other.wait_ready, None, 60)
    other.add(make_request("endless", [3], 60))
    assert isinstance(await other.outputs(), CoreOutputs)
    other.close()
    for _ in range(100):
        stats = await client.call("stats")
        if stats["num_running"] == 0:
            break
        await asyncio.sleep(0.02)
    assert stats["num_running"] == 0
    assert stats["num_clients"] == 1
    assert stats["steps"] < 59


async def test_a_client_that_the_core_has_lost_learns_it_with_its_next_word(client: CoreClient) -> None:
    """Its connection broke and came back; whoever waits for outputs must not wait for ever."""
    waiting = asyncio.create_task(client.outputs())
    await asyncio.sleep(0)
    wire, loop = client._wire, asyncio.get_running_loop()
    identity = wire._output.getsockopt(zmq.IDENTITY)
    assert isinstance(identity, bytes)
    loop.remove_reader(wire.descriptor)
    wire._output.close()
    other = CoreClient(make_config())
    other.attach(client.addresses)
    await asyncio.to_thread(other.wait_ready, None, 60)
    while (await other.call("stats"))["num_clients"] > 1:
        client.add(make_request(f"r{time.monotonic()}", [1], 60))
        await asyncio.sleep(0.01)
    wire._output = make_socket(wire._context, zmq.DEALER, identity)
    wire._output.connect(client.addresses.output)
    wire.descriptor = int(wire._output.getsockopt(zmq.FD))
    loop.add_reader(wire.descriptor, client._read_all)
    for _ in range(1000):
        if client.dead:
            break
        client.abort(["r"])
        await asyncio.sleep(0.01)
        client._read_all()
    with pytest.raises(EngineDeadError, match="lost"):
        await asyncio.wait_for(waiting, 10)
    assert (await other.call("stats"))["num_running"] == 0
    other.close()


async def test_an_attached_client_notices_the_death_too(client: CoreClient, make_client: Callable[..., CoreClient]) -> None:
    other = make_client()
    other.attach(client.addresses)
    ready = await asyncio.to_thread(other.wait_ready, None, 60)
    waiting = asyncio.create_task(other.outputs())
    await asyncio.sleep(0)
    os.kill(ready.pid, signal.SIGKILL)
    with pytest.raises(EngineDeadError):
        await asyncio.wait_for(waiting, HANG_GUARD)


_PARENT = """
import sys
sys.path.insert(0, {here!r})
import os, time
from core_configs import make_config, make_request
from octavo.core.client import CoreClient
client = CoreClient(make_config())
client.command = {command!r}
client.spawn()
client.wait_ready(timeout=120)
client.add(make_request("r", [1]))
print(client.ready.pid, client.addresses.input.removeprefix("ipc://"), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("mode", ["", "stuck"])
def test_the_core_ends_with_its_parent_and_leaves_nothing(mode: str) -> None:
    code = _PARENT.format(here=str(HERE), command=FAKE_CORE)
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "FAKE_CORE": mode})
    assert parent.stdout is not None
    pid, path = parent.stdout.readline().decode().split()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + HANG_GUARD
    while _exists(int(pid)) or os.path.exists(path):
        assert time.monotonic() < deadline, "the core outlived its parent"
        time.sleep(0.02)
    assert not os.path.exists(os.path.dirname(path))


def test_sigint_is_ignored_and_sigterm_ends_the_core(client: CoreClient) -> None:
    assert client.ready is not None
    os.kill(client.ready.pid, signal.SIGINT)
    time.sleep(0.1)
    assert not client.dead
    os.kill(client.ready.pid, signal.SIGTERM)
    deadline = time.monotonic() + HANG_GUARD
    while not client.dead:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_idle_core_uses_no_processor_time(client: CoreClient) -> None:
    assert client.ready is not None

    def cpu_ticks() -> int:
        fields = Path(f"/proc/{client.ready.pid if client.ready else 0}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = cpu_ticks()
    time.sleep(1.0)
    assert cpu_ticks() - before <= 1


def _exists(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


class FullWire:
    """Many messages have come already."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.descriptor, self._other_end = os.pipe()

    def receive(self) -> CoreOutputs | None:
        if not self.left:
            return None
        self.left -= 1
        return CoreOutputs([], float(self.left))

    def close(self) -> None:
        os.close(self.descriptor)
        os.close(self._other_end)


async def test_what_gathered_is_not_read_in_one_turn(make_client: Callable[..., CoreClient]) -> None:
    client, wire = make_client(), FullWire(500)
    client._connected = wire  # type: ignore[assignment]
    first = await client.outputs()
    assert wire.left > 400
    others = [await client.outputs() for _ in range(499)]
    assert [outputs.timestamp for outputs in (first, *others)] == [float(i) for i in reversed(range(500))]
    asyncio.get_running_loop().remove_reader(wire.descriptor)
    client._connected = None
    wire.close()
