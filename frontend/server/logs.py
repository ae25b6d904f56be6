"""Where Octavo's loggers write when it runs as a program."""

from __future__ import annotations

import logging
import os
import sys

from octavo import envs
from octavo.frontend.server.options import ServerOptions
from octavo.log_format import make_formatter


def choose_log(options: ServerOptions) -> dict[str, str]:
    """Let --log-level and --log-format hold for all processes of this program, through the environment.

    Returns:
        Further variables for the core's process: on a terminal, where nobody has asked for a level, the start has one line, and
        the core writes only warnings.
    """
    for name in ("log_level", "log_format"):
        value = getattr(options, name)
        if value is not None:
            os.environ[envs.PREFIX + name.upper()] = value
    return {f"{envs.PREFIX}LOG_LEVEL": "warning"} if on_terminal() and not level_is_set() else {}


def on_terminal() -> bool:
    """Whether a person watches the log."""
    return sys.stderr.isatty() and envs.LOG_FORMAT == "text"


def level_is_set() -> bool:
    """Whether somebody has chosen a level of log lines."""
    return envs.source("LOG_LEVEL") in os.environ


def set_up_logging(handler: logging.Handler | None = None) -> None:
    """Send Octavo's log to `handler` (default: stderr) at OCTAVO_LOG_LEVEL, unless the embedding program has set it up.

    Other libraries' warnings go there, too, in the same form.
    """
    root = logging.getLogger("octavo")
    root.setLevel(envs.LOG_LEVEL.upper())
    if not root.handlers and not logging.getLogger().handlers:
        handler = handler or logging.StreamHandler(sys.stderr)
        handler.setFormatter(make_formatter("server"))
        logging.getLogger().addHandler(handler)
