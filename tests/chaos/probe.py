"""A small client that asks for /health all the time, as a process of its own, so that no work of the runner's delays it.

    python -m chaos.probe HOST PORT THREAD_STAT INTERVAL

For each question it prints when it was asked, how long the answer took, and what the server's thread computed between
question and answer: in an event loop that is the rest of the turn that ran when the question came, and its own.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from pathlib import Path

_REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
_TIMEOUT = 600.0


def thread_seconds(schedstat: Path) -> float:
    """Processor time of a thread, from its /proc/PID/task/TID/schedstat; 0 when it has ended."""
    try:
        return int(schedstat.read_text().split()[0]) / 1e9
    except (OSError, IndexError):
        return 0.0


def main(host: str, port: int, schedstat: Path, interval: float) -> None:
    sock = None
    while True:
        asked, used = time.monotonic(), thread_seconds(schedstat)
        try:
            sock = sock or socket.create_connection((host, port), timeout=_TIMEOUT)
            sock.sendall(_REQUEST)
            answered = bool(sock.recv(4096))
        except OSError:
            answered = False
        took, computed = time.monotonic() - asked, thread_seconds(schedstat) - used
        if answered:
            print(f"{asked:.6f} {took:.6f} {computed:.6f}", flush=True)
        elif sock is not None:
            with contextlib.suppress(OSError):
                sock.close()
            sock = None
        time.sleep(interval)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]))
