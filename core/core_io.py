"""The core's two threads at the wire: one receives and decodes, one encodes and sends.

The loop between them sees only queues: `inbox` gives it (client identity, message) and `send` takes messages away.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import zmq

from octavo.core.sender import RETRY_INTERVAL, Greet, Sender
from octavo.core.transport import Addresses, WireError, client_decoder, make_socket, receive
from octavo.core.unreadable import answer_to_client
from octavo.wire.messages import WIRE_VERSION, ClientMessage, CoreMessage, EngineRequest, Failed, Hello, Progress, Ready

if TYPE_CHECKING:
    from llguidance import LLMatcher

logger = logging.getLogger(__name__)

FLUSH_TIMEOUT = 1.0
LAST_WORDS_TIMEOUT = 5.0
"""Seconds that a client which has just said hello has to connect when the core ends."""


class Disconnected(NamedTuple):
    """In the inbox: this client is gone, or at least its connection is."""


class NotSent(NamedTuple):
    """In the inbox: this message for the client could not be sent, and why."""

    message: CoreMessage
    error: str


class Compiled(NamedTuple):
    """In the inbox: the grammar that this request waits for is compiled, or could not be."""

    message: EngineRequest
    matcher: LLMatcher | None
    error: str


class Stop(NamedTuple):
    """In the inbox: end the loop."""


Inbox = queue.SimpleQueue[tuple[bytes, ClientMessage | Compiled | Disconnected | NotSent | Stop]]


class CoreIO:
    """Binds the core's sockets and runs both threads.

    What start-up has to say (`announce`) goes to every client there is, and its last word to each that comes later.
    """

    def __init__(self, addresses: Addresses) -> None:
        self.addresses = addresses
        self.inbox: Inbox = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[tuple[bytes, CoreMessage | Greet | None]] = queue.SimpleQueue()
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
            self._outbox.put((identity, Greet(message.wire_version)))
            self._met_client.set()
            if message.wire_version == WIRE_VERSION:
                greeted.add(identity)
        elif identity not in greeted:
            logger.error("dropped a message of client %s, which has not said hello", identity.hex())
            return
        self.inbox.put((identity, message))

    # ---- output thread --------------------------------------------------------------------------------------------

    def _send_loop(self) -> None:
        sender = Sender(self._output)
        while True:
            if sender.waiting:
                self._lose(sender.retry())
            try:
                identity, message = self._outbox.get(timeout=RETRY_INTERVAL if sender.waiting else None)
            except queue.Empty:
                continue
            if message is None:
                break
            try:
                self._lose(sender.handle(identity, message))
            except Exception as error:
                logger.exception("could not send a message to client %s", identity.hex())
                if not isinstance(message, Greet):
                    self.inbox.put((identity, NotSent(message, f"{type(error).__name__}: {error}")))
        deadline = time.monotonic() + LAST_WORDS_TIMEOUT
        while sender.waiting and time.monotonic() < deadline:
            sender.retry()
            time.sleep(RETRY_INTERVAL)
        self._output.close(linger=int(FLUSH_TIMEOUT * 1000))

    def _lose(self, clients: list[bytes]) -> None:
        for client in clients:
            self.inbox.put((client, Disconnected()))
