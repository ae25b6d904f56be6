"""How a start is told: in log lines, or on a terminal in one line that changes and a banner that says what to do next."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass

from octavo import progress
from octavo.frontend.async_llm import AsyncLLM
from octavo.frontend.server.banner import banner, things_to_try
from octavo.frontend.server.logs import level_is_set, on_terminal
from octavo.frontend.server.options import ServerOptions
from octavo.frontend.server.status_line import StatusLine, StatusLineHandler
from octavo.wire.messages import Progress

logger = logging.getLogger(__name__)

_PHASES = {
    "process": "starting the engine", "imports": "starting the engine", "device": "setting up the device",
    "weights": "loading the weights", "kv_cache": "making room for the KV cache", "warm_up": "warming up",
}  # fmt: skip


@dataclass(frozen=True)
class Started:
    """A start that is over.

    Attributes:
        engine: what serves.
        url: where clients find it.
        seconds: since the process began.
        table: where the time went, in lines.
        options: of the server.
    """

    engine: AsyncLLM
    url: str
    seconds: float
    table: str
    options: ServerOptions


class StartDisplay:
    """Tells of a start in log lines."""

    handler: logging.Handler | None = None
    """Where log lines go; None = to standard error."""

    def begin(self, model: str) -> None:
        """The port is open, the engine starts."""

    def progress(self, step: Progress) -> None:
        """The core is this far."""

    def end(self, started: Started) -> None:
        """The server is ready."""
        logger.info("start-up took\n%s", started.table)
        logger.info("Octavo is ready at %s", started.url)
        logger.info("try: %s", things_to_try(started.url, started.options, started.engine.supported_pooling_tasks)[0])

    def close(self) -> None:
        """The start is over, or given up. May be called twice."""


class LineDisplay(StartDisplay):
    """Tells of a start in one line of a terminal, which is gone when the start is over."""

    def __init__(self) -> None:
        self._line = StatusLine(sys.stderr)
        self._model = ""
        self._listening = progress.told_to(self._told)
        self._open = False
        self.handler = StatusLineHandler(self._line)
        if not level_is_set():
            self.handler.setLevel(logging.WARNING)

    def begin(self, model: str) -> None:
        self._model = model.rstrip("/").rpartition("/")[2]  # the line is short
        self._open = True
        self._listening.__enter__()
        self._show("starting", 0.0)

    def progress(self, step: Progress) -> None:
        self._show(_PHASES.get(step.phase, step.phase), step.fraction, f" ({step.elapsed:.1f} s)")

    def end(self, started: Started) -> None:  # noqa: ARG002
        self.close()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._listening.__exit__(None, None, None)
            self._line.show("")

    def _told(self, what: str, fraction: float) -> None:
        self._show(what, fraction)

    def _show(self, what: str, fraction: float, time: str = "") -> None:
        if self._open:
            percent = f" {fraction:.0%}" if 0.0 < fraction < 1.0 else ""
            self._line.show(f"{self._model}: {what}{percent}{time}")


class BannerDisplay(LineDisplay):
    """Say that the server is ready, and then show a banner; from then on log lines are shown."""

    def end(self, started: Started) -> None:
        self.close()
        text = banner(started.engine, started.url, started.seconds, started.options)
        self._line.print_above(f"{text}\n\n{started.table}\n" if started.options.verbose else f"{text}\n")
        if self.handler is not None:
            self.handler.setLevel(logging.NOTSET)


def make_display() -> StartDisplay:
    """What suits standard error."""
    return BannerDisplay() if on_terminal() else StartDisplay()
