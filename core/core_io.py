"""The core's two threads at the wire: one receives and decodes, one encodes and sends.

The loop between them sees only queues: `inbox` gives it (client identity, message) and `send` takes messages away.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import NamedTuple

import zmq

from octavo.core.messages import WIRE_VERSION, ClientMessage, CoreMessage, Failed, Hello, Progress, Ready
from octavo.core.transport import Addresses, MessageEncoder, WireError, client_decoder, make_socket, receive
from octavo.core.unreadable import answer_to_client

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5.0
"""Seconds a client has to connect its output socket after its Hello."""
FLUSH_TIMEOUT = 1.0
_RETRY_INTERVAL = 0.005


class Disconnected(NamedTuple):
    """In the inbox: this client is gone, or at least its connection is."""


class NotSent(NamedTuple):
    """In the inbox: this message for the client could not be sent, and why."""

    message: CoreMessage
    error: str


class Stop(NamedTuple):
    """In the inbox: end the loop."""


Inbox = queue.SimpleQueue[tuple[bytes, ClientMessage | Disconnected | NotSent | Stop]]


class _Greet(NamedTuple):
    wire_version: int


class CoreIO:
    """Binds the core's sockets and runs both threads.

    What start-up has to say (`announce`) goes to every client there is, and its last word to each that comes later.
    """

    def __init__(self, addresses: Addresses) -> None:
        self.addresses = addresses
        self.inbox: Inbox = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[tuple[bytes, CoreMessage | _Greet | None]] = queue.SimpleQueue()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._input = self._bound(addresses.input)
        self._output = self._bound(addresses.output)
        self._output.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._met_client = threading.Event()
        self._sender = threading.Thread(target=self._send_loop, name="octavo-core-output", daemon=True)
        self._receiver = threading.Thread(target=self._receive_loop, name="octavo-core-input", daemon=True)

    def start(self) -> None:
        self._sender.start()
        self._receiver.start()

    def send(self, identity: bytes, message: CoreMessage) -> None:
        """Queue a message; it must not be changed any more."""
        self._outbox.put((identity, message))

    def announce(self, message: Progress | Ready | Failed) -> None:
        """Queue a message for every client, present and future."""
        self._outbox.put((b"", message))

    def wait_for_client(self, timeout: float) -> bool:
        """Wait until there is a client, who then hears what has been announced."""
        return self._met_client.wait(timeout)

    def close(self) -> None:
        """Send what is queued, waiting at most FLUSH_TIMEOUT for slow clients, and end both threads."""
        self._outbox.put((b"", None))
        self._sender.join()
        self._context.term()
        self._receiver.join()

    def _bound(self, address: str) -> zmq.Socket[bytes]:
        socket = make_socket(self._context, zmq.ROUTER)
        # Else a client whose connection broke stays unreachable: nobody reads its old connection's end.
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        socket.bind(address)
        return socket

    # ---- input thread ---------------------------------------------------------------------------------------------

    def _receive_loop(self) -> None:
        decoder = client_decoder()
        greeted: set[bytes] = set()
        while True:
            try:
                frames = receive(self._input)
            except zmq.ContextTerminated:
                self._input.close()
                return
            identity = bytes(frames[0])
            try:
                message = decoder.decode(frames[1:])
            except WireError as error:
                logger.error("dropped a malformed message of client %s: %s", identity.hex(), error)
                answer = answer_to_client(frames[1:], error)
                if answer is not None and identity in greeted:
                    self.send(identity, answer)
                continue
            self._dispatch(identity, message, greeted)

    def _dispatch(self, identity: bytes, message: ClientMessage, greeted: set[bytes]) -> None:
        if isinstance(message, Hello):
            self._outbox.put((identity, _Greet(message.wire_version)))
            self._met_client.set()
            if message.wire_version == WIRE_VERSION:
                greeted.add(identity)
        elif identity not in greeted:
            logger.error("dropped a message of client %s, which has not said hello", identity.hex())
            return
        self.inbox.put((identity, message))

    # ---- output thread --------------------------------------------------------------------------------------------

    def _send_loop(self) -> None:
        sender = _Sender(self._output)
        while True:
            identity, message = self._outbox.get()
            if message is None:
                self._output.close(linger=int(FLUSH_TIMEOUT * 1000))
                return
            try:
                gone = sender.handle(identity, message)
            except Exception as error:
                logger.exception("could not send a message to client %s", identity.hex())
                if not isinstance(message, _Greet):
                    self.inbox.put((identity, NotSent(message, f"{type(error).__name__}: {error}")))
                continue
            for client in gone:
                self.inbox.put((client, Disconnected()))


class _Sender:
    """What the output thread knows: the clients, and the last announcement."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._encoder = MessageEncoder()
        self._clients: set[bytes] = set()
        self._announced: CoreMessage = Progress("process", 0.0, 0.0)

    def handle(self, identity: bytes, message: CoreMessage | _Greet) -> list[bytes]:
        """Send; returns the clients that turned out to be gone."""
        if isinstance(message, _Greet):
            return self._greet(identity, message.wire_version)
        if isinstance(message, Failed) and identity:
            self._try_send([identity, *self._encoder.encode(message)])  # one that was given up may yet be there
            return []
        if identity:
            return [] if identity not in self._clients or self._send(identity, message) else [identity]
        self._announced = message
        return [client for client in list(self._clients) if not self._send(client, message)]

    def _greet(self, identity: bytes, wire_version: int) -> list[bytes]:
        self._clients.add(identity)
        if wire_version != WIRE_VERSION:
            text = f"the core speaks wire version {WIRE_VERSION}, the client {wire_version}: two versions of Octavo are mixed"
            self._wait_connected(identity, Failed(text))
            self._clients.discard(identity)
            return [identity]
        return [] if self._wait_connected(identity, self._announced) else [identity]

    def _wait_connected(self, identity: bytes, message: CoreMessage) -> bool:
        """Send, giving the client time to connect its second socket."""
        frames = [identity, *self._encoder.encode(message)]
        deadline = time.monotonic() + CONNECT_TIMEOUT
        while not self._try_send(frames):
            if time.monotonic() > deadline:
                logger.error("client %s said hello but did not connect", identity.hex())
                self._clients.discard(identity)
                return False
            time.sleep(_RETRY_INTERVAL)
        return True

    def _send(self, identity: bytes, message: CoreMessage) -> bool:
        if self._try_send([identity, *self._encoder.encode(message)]):
            return True
        logger.warning("client %s is gone", identity.hex())
        self._clients.discard(identity)
        return False

    def _try_send(self, frames: list[bytes | memoryview]) -> bool:
        try:
            self._socket.send_multipart(frames, copy=False)
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                return False
            raise
        return True
