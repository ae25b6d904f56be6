"""The server of one `octavo run`: on a Unix socket in a folder of its own, ended with the command that started it.

Its standard input is a pipe whose other end that command holds: when the command ends, of whatever, the input does, too. Of a
command that was killed the folder is still there; the server removes it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from octavo.core.waiting_core import WaitingCore
from octavo.errors import OctavoError
from octavo.frontend.cli import serve
from octavo.frontend.cli.terminal_text import printable
from octavo.frontend.server.logs import choose_log, level_is_set, on_terminal


def main(argv: Sequence[str]) -> int:
    """Serve as `octavo serve ARGV`, until standard input ends; returns the exit code."""
    engine_args, options = serve.parse(argv)
    threading.Thread(target=_end_with_input, args=(options.uds,), name="octavo-watch", daemon=True).start()
    environment = choose_log(options)
    if not level_is_set():
        os.environ["OCTAVO_LOG_LEVEL"] = "warning"  # the log is not what was asked for
    try:
        with WaitingCore(environment=environment) as core:
            from octavo.frontend.server.run import run_server
            from octavo.frontend.server.start_display import LineDisplay, StartDisplay

            return run_server(engine_args, options, core, LineDisplay() if on_terminal() else StartDisplay())
    except OctavoError as error:
        print(f"octavo: error: {printable(str(error))}", file=sys.stderr)
        return 1


def _end_with_input(socket: str | None) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        continue
    if socket is not None:
        _remove_folder(Path(socket))
    os.kill(os.getpid(), signal.SIGTERM)


def _remove_folder(socket: Path) -> None:
    """Remove the socket and its folder, which goes only if nothing else is in it."""
    with contextlib.suppress(OSError):  # the command has done it
        socket.unlink(missing_ok=True)
        socket.parent.rmdir()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
