"""Server-sent events as they come off a socket: bytes in, `data` payloads out."""

from __future__ import annotations

DONE = b"[DONE]"


class SSEDecoder:
    """Splits a byte stream into the payloads of its `data:` events, wherever the network has cut it.

    Comments (keep-alive), other fields and blank lines are passed over; several `data:` lines of one event are joined
    with a newline, as the standard asks.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that `data` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        events = []
        for ended in lines:
            line = ended.rstrip(b"\r")
            if line.startswith(b"data:"):
                self._lines.append(line[5:].removeprefix(b" "))
            elif not line and self._lines:
                events.append(b"\n".join(self._lines))
                self._lines = []
        return events

    def close(self) -> list[bytes]:
        """What an ended stream leaves: the last event when its blank line is missing."""
        return self.feed(b"\n\n")
