"""What the core's output thread knows: the clients, those of them that cannot be reached yet, and the last announcement."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import NamedTuple

import zmq

from octavo.core.transport import Frames, MessageEncoder
from octavo.wire.messages import WIRE_VERSION, CoreMessage, Failed, Progress

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 300.0
"""Seconds a client has to connect its output socket after its Hello; its process may be stopped meanwhile."""
RETRY_INTERVAL = 0.005
"""Seconds between two attempts to reach a client that has said hello and has not connected."""


class Greet(NamedTuple):
    """In the place of a message: the client has said hello."""

    wire_version: int


@dataclass(slots=True)
class _Unconnected:
    """A client whose second socket is not there yet, and what it is to be told when it is."""

    deadline: float
    unsent: list[Frames] = field(default_factory=list)
    welcome: bool = True
    """Whether it stays when it has been told."""


class Sender:
    """Sends to any number of clients; never waits for one of them. One thread uses it."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._encoder = MessageEncoder()
        self._clients: set[bytes] = set()
        self._unconnected: dict[bytes, _Unconnected] = {}
        self._announced: CoreMessage = Progress("process", 0.0, 0.0)

    @property
    def waiting(self) -> bool:
        """Whether `retry` has something to do."""
        return bool(self._unconnected)

    def handle(self, identity: bytes, message: CoreMessage | Greet) -> list[bytes]:
        """Send, to every client if `identity` is empty; returns the clients that turned out to be gone.

        Raises:
            TypeError, ValueError, OverflowError: the message cannot be encoded.
        """
        if isinstance(message, Greet):
            return self._greet(identity, message.wire_version)
        if not identity:
            self._announced = message
            return [client for client in list(self._clients) if not self._send(client, message)]
        if identity in self._clients:
            return [] if self._send(identity, message) else [identity]
        if isinstance(message, Failed):
            self._try_send([identity, *self._encoder.encode(message)])  # one that was given up may yet be there
        return []

    def retry(self) -> list[bytes]:
        """Try again to reach the unconnected; returns those that are given up."""
        return [identity for identity in list(self._unconnected) if not self._retry(identity)]

    def _greet(self, identity: bytes, wire_version: int) -> list[bytes]:
        one = self._unconnected[identity] = _Unconnected(time.monotonic() + CONNECT_TIMEOUT)
        answer = self._announced
        if wire_version != WIRE_VERSION:
            text = f"the core speaks wire version {WIRE_VERSION}, the client {wire_version}: two versions of Octavo are mixed"
            answer, one.welcome = Failed(text), False
        one.unsent.append([identity, *self._encoder.encode(answer)])
        self._clients.add(identity)
        return [] if self._retry(identity) else [identity]

    def _retry(self, identity: bytes) -> bool:
        """Whether the client is, or may yet come to be, one of ours."""
        one = self._unconnected[identity]
        while one.unsent and self._try_send(one.unsent[0]):
            del one.unsent[0]
        if one.unsent and time.monotonic() < one.deadline:
            return True
        if one.unsent:
            logger.error("client %s said hello but did not connect", identity.hex())
        del self._unconnected[identity]
        if one.unsent or not one.welcome:
            self._clients.discard(identity)
            return False
        return True

    def _send(self, identity: bytes, message: CoreMessage) -> bool:
        frames: Frames = [identity, *self._encoder.encode(message)]
        if identity in self._unconnected:
            self._unconnected[identity].unsent.append(frames)
            return True
        if self._try_send(frames):
            return True
        logger.warning("client %s is gone", identity.hex())
        self._clients.discard(identity)
        return False

    def _try_send(self, frames: Frames) -> bool:
        try:
            self._socket.send_multipart(frames, copy=False)
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                return False
            raise
        return True
