"""A client's two sockets and the encoding on them. One thread at a time uses it."""

from __future__ import annotations

import logging
import uuid

import zmq

from octavo.core.transport import Addresses, MessageEncoder, WireError, core_decoder, make_socket, receive
from octavo.core.unreadable import instead_of
from octavo.wire.messages import ClientMessage, CoreMessage

logger = logging.getLogger(__name__)


class ClientWire:
    """Connected to a core, or connecting: messages sent before the core listens arrive once it does."""

    def __init__(self, addresses: Addresses) -> None:
        identity = uuid.uuid4().bytes
        self.closed = False
        self.bytes_sent = 0
        self._encoder = MessageEncoder()
        self._decoder = core_decoder()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._output = make_socket(self._context, zmq.DEALER, identity)
        self._output.connect(addresses.output)
        self._input = make_socket(self._context, zmq.DEALER, identity)
        self._input.connect(addresses.input)
        self.descriptor = int(self._output.getsockopt(zmq.FD))
        """Becomes readable when the first of several messages arrives: read until there is none."""

    def send(self, message: ClientMessage) -> None:
        """Never blocks. After `close` it does nothing."""
        if not self.closed:
            frames = self._encoder.encode(message)
            self._input.send_multipart(frames, copy=False)
            self.bytes_sent += sum(map(len, frames))

    def receive(self) -> CoreMessage | None:
        """The next message that is there; None when there is none, or after `close`.

        In place of one that cannot be read comes one that ends whoever waits for it.
        """
        while not self.closed:
            try:
                frames = receive(self._output, zmq.NOBLOCK)
            except zmq.Again:
                return None
            try:
                message: CoreMessage | None = self._decoder.decode(frames)
            except WireError as error:
                logger.error("dropped a malformed message of the engine core: %s", error)
                message = instead_of(frames, error)
            if message is not None:
                return message
        return None

    def wait(self, timeout_ms: int) -> CoreMessage | None:
        """Like `receive`, but wait for a message first."""
        if not self.closed:
            self._output.poll(timeout_ms)
        return self.receive()

    def close(self) -> None:
        """Drop what is unsent and unread. Idempotent."""
        if not self.closed:
            self.closed = True
            self._input.close(linger=0)
            self._output.close(linger=0)
            self._context.term()
