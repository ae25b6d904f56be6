"""How messages cross a process border: msgpack with arrays as frames of their own, over ZeroMQ.

Two sockets join a client to a core, each used by one thread on the core's side: `input` (client -> core) and `output`
(core -> client). Both are DEALER at the client and ROUTER at the core, and the client uses one identity on both, so a core
serves any number of clients. Addresses are ipc:// files in a directory only its owner can enter; tcp:// works as well.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import zmq

from octavo.wire.messages import ClientMessage, CoreMessage

logger = logging.getLogger(__name__)

INLINE_BYTES = 512
"""Arrays up to this size travel inside the message."""
_ARRAY_KINDS = "biuf"
_KEEPALIVE = {zmq.TCP_KEEPALIVE: 1, zmq.TCP_KEEPALIVE_IDLE: 15, zmq.TCP_KEEPALIVE_INTVL: 5, zmq.TCP_KEEPALIVE_CNT: 4}

Frame = bytes | memoryview
Frames = list[Frame]


class WireError(ValueError):
    """A message that cannot be read."""


class Addresses(NamedTuple):
    """Where a core listens."""

    input: str
    output: str


class MessageEncoder:
    """Message -> frames; the first holds the document, the others the memory of its large arrays, uncopied.

    One thread uses it. The arrays must not change until the frames are sent.
    """

    def __init__(self) -> None:
        self._frames: Frames = []
        self._encoder = msgspec.msgpack.Encoder(enc_hook=self._encode_array)

    def encode(self, message: ClientMessage | CoreMessage) -> Frames:
        """Raises: TypeError: the message holds something that is neither msgpack nor an array of numbers."""
        frames: Frames = [b""]
        self._frames = frames
        frames[0] = self._encoder.encode(message)
        return frames

    def _encode_array(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray) or value.dtype.kind not in _ARRAY_KINDS:
            raise TypeError(f"cannot send a {type(value).__name__}")
        array = np.ascontiguousarray(value)
        if array.nbytes <= INLINE_BYTES:
            return (array.dtype.str, value.shape, array.tobytes())
        self._frames.append(array.reshape(-1).view(np.uint8).data)
        return (array.dtype.str, value.shape, len(self._frames) - 1)


class MessageDecoder:
    """Frames -> message of one closed set of types. Arrays are views of their frames. One thread uses it."""

    def __init__(self, types: Any) -> None:
        self._frames: Sequence[Frame] = ()
        self._decoder = msgspec.msgpack.Decoder(types, dec_hook=self._decode_array)

    def decode(self, frames: Sequence[Frame]) -> Any:
        """Raises: WireError: the frames are no message of these types."""
        if not frames:
            raise WireError("message without a frame")
        self._frames = frames
        try:
            return self._decoder.decode(frames[0])
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
            raise WireError(str(error)) from error
        finally:
            self._frames = ()

    def _decode_array(self, expected: type, value: Any) -> Any:
        if expected is not np.ndarray:
            raise TypeError(f"unexpected type {expected}")
        name, shape, data = value
        dtype = np.dtype(name)
        if dtype.kind not in _ARRAY_KINDS or min(shape, default=0) < 0:
            raise ValueError(f"array of {name}, shape {shape}")
        if isinstance(data, int):
            if not 0 < data < len(self._frames):
                raise ValueError(f"array in frame {data} of {len(self._frames)}")
            data = self._frames[data]
        return np.frombuffer(data, dtype=dtype).reshape(shape)


def client_decoder() -> MessageDecoder:
    """For what clients send."""
    return MessageDecoder(ClientMessage)


def core_decoder() -> MessageDecoder:
    """For what a core sends."""
    return MessageDecoder(CoreMessage)


def receive(socket: zmq.Socket[bytes], flags: int = 0) -> Frames:
    """The next message's frames; only the ones that hold arrays are left where ZeroMQ put them.

    Raises:
        zmq.Again: nothing there, with zmq.NOBLOCK.
    """
    frames: Frames = [socket.recv(flags)]
    while socket.getsockopt(zmq.RCVMORE):
        frame = socket.recv(copy=False)
        frames.append(frame.buffer if len(frame) > INLINE_BYTES else frame.bytes)
    return frames


def make_socket(context: zmq.Context[zmq.Socket[bytes]], kind: int, identity: bytes | None = None) -> zmq.Socket[bytes]:
    """A socket that never blocks a sender, never delays the end of a process, and loses a peer only when that has closed.

    A process may be stopped for any time: over ipc it is watched, and over TCP its host's kernel, not the process, is asked
    whether it is still there. ZeroMQ's heartbeats, which a stopped process misses, stay off.
    """
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.RECONNECT_IVL, 10)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 200)
    for option, value in _KEEPALIVE.items():
        socket.setsockopt(option, value)
    if identity is not None:
        socket.setsockopt(zmq.IDENTITY, identity)
    return socket


def make_socket_directory() -> Addresses:
    """The two addresses in a new directory of mode 0700, short enough for a Unix socket."""
    directory = tempfile.mkdtemp(prefix="octavo-")
    if len(os.path.join(directory, "output")) > zmq.IPC_PATH_MAX_LEN:
        os.rmdir(directory)
        directory = tempfile.mkdtemp(prefix="octavo-", dir="/tmp")
    return Addresses(f"ipc://{directory}/input", f"ipc://{directory}/output")


def remove_socket_directory(addresses: Addresses) -> None:
    """Delete the directory that `make_socket_directory` made; fine if it is gone."""
    if addresses.input.startswith("ipc://"):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(os.path.dirname(addresses.input.removeprefix("ipc://")))
