"""What the core process is told over its stdin before anything else."""

from __future__ import annotations

from typing import BinaryIO

import msgspec

from octavo.config import EngineConfig
from octavo.core.transport import Addresses

_LENGTH_BYTES = 8


class Bootstrap(msgspec.Struct):
    """The configuration, and where to listen. The pipe it came through stays open as long as the parent lives."""

    config: EngineConfig
    addresses: Addresses
    sent_at: float
    """When this was sent: the monotonic clock of the host, seconds."""


def write_bootstrap(pipe: BinaryIO, bootstrap: Bootstrap) -> None:
    """Raises: BrokenPipeError: the core process is gone already."""
    document = msgspec.msgpack.encode(bootstrap)
    pipe.write(len(document).to_bytes(_LENGTH_BYTES, "little") + document)
    pipe.flush()


def read_bootstrap(pipe: BinaryIO) -> Bootstrap:
    """Raises: EOFError: the parent closed the pipe first; msgspec.MsgspecError: what it wrote is no Bootstrap."""
    length = int.from_bytes(_read_exactly(pipe, _LENGTH_BYTES), "little")
    return msgspec.msgpack.decode(_read_exactly(pipe, length), type=Bootstrap)


def _read_exactly(pipe: BinaryIO, count: int) -> bytes:
    data = pipe.read(count)
    if len(data) < count:
        raise EOFError("the parent closed the pipe before it said what to do")
    return data
