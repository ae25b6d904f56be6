"""Frames, tensors, and what happens to messages that are no messages."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import stat
import time
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import pytest
import zmq
from core_configs import make_request

from octavo.core import sender
from octavo.core.client_wire import ClientWire
from octavo.core.core_io import CoreIO, Disconnected, NotSent
from octavo.core.transport import (
    INLINE_BYTES,
    Addresses,
    MessageDecoder,
    MessageEncoder,
    WireError,
    client_decoder,
    core_decoder,
    make_socket,
    make_socket_directory,
    receive,
    remove_socket_directory,
)
from octavo.wire.logprobs import TokenLogprobs
from octavo.wire.messages import (
    WIRE_VERSION,
    AbortRequests,
    ControlCall,
    ControlReply,
    CoreOutputs,
    Event,
    EventKind,
    Failed,
    FinishReason,
    Hello,
    Progress,
    Ready,
    RequestUpdate,
)


def _logprobs(num_tokens: int, k: int) -> TokenLogprobs:
    return TokenLogprobs(
        np.arange(num_tokens * k, dtype=np.int32).reshape(num_tokens, k),
        np.linspace(-5, 0, num_tokens * k, dtype=np.float32).reshape(num_tokens, k),
        np.ones(num_tokens, np.int32),
    )


@pytest.mark.parametrize(("num_tokens", "num_frames"), [(1, 1), (0, 1), (100, 3)])
def test_arrays_arrive_whole_large_ones_as_frames_of_their_own(num_tokens: int, num_frames: int) -> None:
    sent = _logprobs(num_tokens, 21)
    update = RequestUpdate("r", [1, 2], FinishReason.STOP, 7, logprobs=sent, events=[Event(EventKind.QUEUED, 1.5)])
    frames = MessageEncoder().encode(CoreOutputs([update], 2.0))
    assert len(frames) == num_frames
    message = core_decoder().decode([bytes(frame) for frame in frames])
    got = message.updates[0].logprobs
    for name in ("token_ids", "logprobs", "ranks"):
        np.testing.assert_array_equal(getattr(got, name), getattr(sent, name))
        assert getattr(got, name).dtype == getattr(sent, name).dtype
    assert message.updates[0].events == update.events
    assert message.updates[0].finish_reason is FinishReason.STOP


def test_large_arrays_are_not_copied() -> None:
    array = np.zeros(INLINE_BYTES, np.int32)
    frames = MessageEncoder().encode(CoreOutputs([RequestUpdate("r", logprobs=TokenLogprobs(array, array, array))], 0.0))
    array[3] = 42
    assert np.frombuffer(frames[1], np.int32)[3] == 42


def test_requests_survive_the_wire() -> None:
    request = make_request("r", [1, 2, 3], 5, seed=2**64 - 1, logit_bias={3: 1.5}, bad_token_sequences=((1, 2), (3,)), salt="x")
    assert client_decoder().decode([bytes(f) for f in MessageEncoder().encode(request)]) == request


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [b"\xc1"],
        [b"\x93"],
        [msgspec.msgpack.encode(["unknown", 1])],
        [msgspec.msgpack.encode(["add", "r"])],
        [msgspec.msgpack.encode(["abort", [1]])],
        [msgspec.msgpack.encode({"no": "tag"})],
        [b"\x91" * 100_000],
    ],
)
def test_malformed_messages_are_wire_errors(frames: list[bytes]) -> None:
    with pytest.raises(WireError):
        client_decoder().decode(frames)


@pytest.mark.parametrize(
    "array",
    [
        ["<i4", [2], b"1234"],
        ["<i4", [2], 1],
        ["<i4", [2], 0],
        ["O", [1], b"12345678"],
        ["nonsense", [1], b"12345678"],
        ["<i4", [-5], b"12345678"],
        ["<i4"],
        5,
        ["<i4", [2**62, 2**62], b"1234"],
    ],
)
def test_malformed_arrays_are_wire_errors(array: object) -> None:
    good = ["<i4", [1], b"1234"]
    document = msgspec.msgpack.encode([good, array, good])
    with pytest.raises(WireError):
        MessageDecoder(TokenLogprobs).decode([document])


def test_the_socket_directory_is_private_and_short() -> None:
    addresses = make_socket_directory()
    directory = os.path.dirname(addresses.input.removeprefix("ipc://"))
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    assert len(addresses.output) < zmq.IPC_PATH_MAX_LEN
    remove_socket_directory(addresses)
    remove_socket_directory(addresses)
    assert not os.path.exists(directory)


class Peer:
    """A client by hand."""

    def __init__(self, addresses: Addresses, identity: bytes, *, with_output: bool = True) -> None:
        self.identity = identity
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.output: zmq.Socket[bytes] | None = None
        if with_output:
            self.connect_output(addresses)
        self.input = make_socket(self._context, zmq.DEALER, identity)
        self.input.connect(addresses.input)
        self._encoder = MessageEncoder()

    def connect_output(self, addresses: Addresses) -> None:
        self.output = make_socket(self._context, zmq.DEALER, self.identity)
        self.output.connect(addresses.output)

    def send(self, message: object) -> None:
        self.input.send_multipart(self._encoder.encode(message))  # type: ignore[arg-type]

    def receive(self, timeout: float = 10.0) -> object:
        assert self.output is not None
        assert self.output.poll(int(timeout * 1000)), "nothing came"
        return core_decoder().decode(receive(self.output))

    def close(self) -> None:
        self.input.close(linger=0)
        if self.output is not None:
            self.output.close(linger=0)
        self._context.term()


@pytest.fixture
def core_io() -> Iterator[CoreIO]:
    addresses = make_socket_directory()
    io = CoreIO(addresses)
    io.start()
    yield io
    io.close()
    remove_socket_directory(addresses)


@pytest.fixture
def peer(core_io: CoreIO) -> Iterator[Peer]:
    peer = Peer(core_io.addresses, b"peer")
    yield peer
    peer.close()


def test_malformed_frames_are_dropped_and_the_next_message_arrives(
    core_io: CoreIO, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    peer.send(Hello(WIRE_VERSION))
    for frames in ([b""], [b"\xff\xff"], [b"a", b"b", b"c"], [msgspec.msgpack.encode(["add", 1])]):
        peer.input.send_multipart(frames)
    peer.send(AbortRequests(["r"]))
    assert core_io.inbox.get(timeout=120) == (b"peer", Hello(WIRE_VERSION))
    assert core_io.inbox.get(timeout=120) == (b"peer", AbortRequests(["r"]))
    assert sum("malformed" in record.message for record in caplog.records) == 4


def test_who_does_not_say_hello_is_not_served(core_io: CoreIO, peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    peer.send(ControlCall(1, "ping"))
    peer.send(Hello(WIRE_VERSION))
    assert core_io.inbox.get(timeout=120)[1] == Hello(WIRE_VERSION)
    assert any("hello" in record.message for record in caplog.records)


def test_a_client_that_takes_its_time_to_connect_keeps_nobody_waiting(core_io: CoreIO, peer: Peer) -> None:
    """Its process may be stopped between its two connections; all that it missed comes when it is there."""
    late = Peer(core_io.addresses, b"late", with_output=False)
    late.send(Hello(WIRE_VERSION))
    assert core_io.inbox.get(timeout=10) == (b"late", Hello(WIRE_VERSION))
    core_io.announce(Progress("weights", 0.5, 1.0))
    core_io.send(b"late", CoreOutputs([], 7.0))
    peer.send(Hello(WIRE_VERSION))
    assert peer.receive() == Progress("weights", 0.5, 1.0)
    assert core_io.inbox.get(timeout=10) == (b"peer", Hello(WIRE_VERSION))
    for number in range(3):
        core_io.send(b"peer", CoreOutputs([], float(number)))
        assert peer.receive() == CoreOutputs([], float(number))
    late.connect_output(core_io.addresses)
    assert [late.receive() for _ in range(3)] == [
        Progress("process", 0.0, 0.0), Progress("weights", 0.5, 1.0), CoreOutputs([], 7.0),
    ]  # fmt: skip
    core_io.send(b"late", CoreOutputs([], 8.0))
    assert late.receive() == CoreOutputs([], 8.0)
    assert core_io.inbox.empty()
    late.close()


def test_a_client_that_never_connects_is_given_up(core_io: CoreIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "CONNECT_TIMEOUT", 0.02)
    late = Peer(core_io.addresses, b"never", with_output=False)
    late.send(Hello(WIRE_VERSION))
    news = [core_io.inbox.get(timeout=10) for _ in range(2)]
    assert sorted(type(message).__name__ for _, message in news) == ["Disconnected", "Hello"]
    late.close()


def test_another_wire_version_is_refused_with_words(core_io: CoreIO, peer: Peer) -> None:
    peer.send(Hello(WIRE_VERSION + 1))
    answer = peer.receive()
    assert isinstance(answer, Failed)
    assert "wire version" in answer.message


def test_the_last_announcement_reaches_those_who_come_later(core_io: CoreIO, peer: Peer) -> None:
    core_io.announce(Progress("weights", 0.5, 1.0))
    core_io.announce(Ready(WIRE_VERSION, 1, 2, 3, 4, {"weights": 1.0}))
    peer.send(Hello(WIRE_VERSION))
    assert peer.receive() == Ready(WIRE_VERSION, 1, 2, 3, 4, {"weights": 1.0})


def test_a_client_that_went_away_is_noticed_when_it_is_sent_to(core_io: CoreIO) -> None:
    peer = Peer(core_io.addresses, b"short-lived")
    peer.send(Hello(WIRE_VERSION))
    peer.receive()
    assert isinstance(core_io.inbox.get(timeout=120)[1], Hello)
    peer.close()
    deadline = time.monotonic() + 120
    while core_io.inbox.empty():
        assert time.monotonic() < deadline
        core_io.send(b"short-lived", CoreOutputs([], 0.0))
        time.sleep(0.01)
    assert core_io.inbox.get(timeout=120) == (b"short-lived", Disconnected())


def test_messages_that_cannot_be_encoded_do_not_stop_the_output(
    core_io: CoreIO, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    peer.send(Hello(WIRE_VERSION))
    peer.receive()
    assert isinstance(core_io.inbox.get(timeout=10)[1], Hello)
    lost = CoreOutputs([object()], 0.0)  # type: ignore[list-item]
    with caplog.at_level(logging.ERROR):
        core_io.send(b"peer", lost)
        core_io.send(b"peer", CoreOutputs([], 5.0))
        assert peer.receive() == CoreOutputs([], 5.0)
    assert any("could not send" in record.message for record in caplog.records)
    identity, news = core_io.inbox.get(timeout=10)
    assert identity == b"peer"
    assert isinstance(news, NotSent)
    assert news.message is lost
    assert "object" in news.error


@pytest.mark.parametrize(
    "frame",
    [
        ["add", "r", [1], [2**63, "seed"], 0.0],
        ["add", "r", [2**64 - 1, "x"], [16, 0], 0.0],
        ["add", "r"],
        ["add", "r", [1], [16, 0, *[1.0] * 10, [2], [3], None, None, [], None, None, None, "yes"], 0.0],
    ],
)
def test_a_request_that_cannot_be_read_is_answered(core_io: CoreIO, peer: Peer, frame: list[object]) -> None:
    peer.send(Hello(WIRE_VERSION))
    peer.receive()
    peer.input.send_multipart([msgspec.msgpack.encode(frame)])
    answer = peer.receive()
    assert isinstance(answer, CoreOutputs)
    [update] = answer.updates
    assert (update.request_id, update.finish_reason) == ("r", FinishReason.ERROR)
    assert "could not read" in (update.error or "")


def test_a_call_that_cannot_be_read_is_answered(core_io: CoreIO, peer: Peer) -> None:
    peer.send(Hello(WIRE_VERSION))
    peer.receive()
    peer.input.send_multipart([msgspec.msgpack.encode(["call", 7, ["ping"]])])
    answer = peer.receive()
    assert isinstance(answer, ControlReply)
    assert answer.call_id == 7
    assert "could not read" in (answer.error or "")


@pytest.fixture
def say_to_client() -> Iterator[tuple[Callable[[bytes], None], ClientWire]]:
    """A core by hand: what sends a frame to its one client, and the client."""
    addresses = make_socket_directory()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    output = make_socket(context, zmq.ROUTER)
    output.setsockopt(zmq.ROUTER_MANDATORY, 1)
    output.bind(addresses.output)
    input_ = make_socket(context, zmq.ROUTER)
    input_.bind(addresses.input)
    wire = ClientWire(addresses)
    wire.send(Hello(WIRE_VERSION))
    identity = receive(input_)[0]

    def say(frame: bytes) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                return output.send_multipart([identity, frame])
            except zmq.ZMQError:
                time.sleep(0.01)  # its second socket is not connected yet
        raise TimeoutError

    yield say, wire
    wire.close()
    output.close(linger=0)
    input_.close(linger=0)
    context.term()
    remove_socket_directory(addresses)


def test_outputs_that_cannot_be_read_end_their_requests(say_to_client: tuple[Callable[[bytes], None], ClientWire]) -> None:
    """By a core of this wire version whose message is not what it should be."""
    say, wire = say_to_client
    documents = [
        ["outputs", [["a", ["x"]], ["b"], [], [5], "c"], 0.0, None, [["d", 6], [1, 2]]],
        ["outputs", [["a"]], "late"],
        ["outputs", {"a": 1}],
        ["reply"],
        ["reply", 3],
        ["reply", 4, None, 5],
        ["progress", "weights", 0.5, 1.0],
    ]
    for document in documents:
        say(msgspec.msgpack.encode(document))
    say(b"\xc1")
    say(bytes(MessageEncoder().encode(CoreOutputs([], 9.0))[0]))
    messages: list[object] = []
    deadline = time.monotonic() + 10
    while len(messages) < 6 and time.monotonic() < deadline:
        messages += [message for message in [wire.wait(100)] if message is not None]
    assert [[u.request_id for u in m.updates] for m in messages[:2] if isinstance(m, CoreOutputs)] == [["a", "b", "d"], ["a"]]
    assert all(u.finish_reason is FinishReason.ERROR for m in messages[:2] for u in m.updates)  # type: ignore[attr-defined]
    assert messages[2] == ControlReply(3)
    assert isinstance(messages[3], ControlReply)
    assert (messages[3].call_id, "could not be read" in (messages[3].error or "")) == (4, True)
    assert messages[4:] == [Progress("weights", 0.5, 1.0), CoreOutputs([], 9.0)]


def test_a_process_that_is_stopped_is_not_taken_for_dead() -> None:
    """Heartbeats would: they are answered by the process, which may be stopped for any time."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    for kind in (zmq.ROUTER, zmq.DEALER):
        socket = make_socket(context, kind)
        assert socket.getsockopt(zmq.HEARTBEAT_IVL) == 0
        assert socket.getsockopt(zmq.SNDHWM) == socket.getsockopt(zmq.RCVHWM) == 0
        assert socket.getsockopt(zmq.TCP_KEEPALIVE) == 1
        socket.close()
    context.term()


def test_a_client_that_was_given_up_can_still_be_told_so(core_io: CoreIO) -> None:
    """Its connection broke and came back: only the core knows that its requests are gone."""
    peer = Peer(core_io.addresses, b"twice")
    peer.send(Hello(WIRE_VERSION))
    peer.receive()
    assert isinstance(core_io.inbox.get(timeout=10)[1], Hello)
    peer.output.close()
    news = None
    deadline = time.monotonic() + 10
    while news is None and time.monotonic() < deadline:
        core_io.send(b"twice", CoreOutputs([], 0.0))
        with contextlib.suppress(queue.Empty):
            news = core_io.inbox.get(timeout=0.01)
    assert news == (b"twice", Disconnected())
    core_io.send(b"twice", Failed("lost"))  # nobody is there to hear it, and that is no fault
    peer.connect_output(core_io.addresses)
    answer = None
    while answer is None and time.monotonic() < deadline:
        core_io.send(b"twice", Failed("lost"))
        answer = peer.receive() if peer.output.poll(50) else None
    assert answer == Failed("lost")
    peer.close()
