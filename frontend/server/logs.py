"""Where Octavo's loggers write when it runs as a program."""

from __future__ import annotations

import logging
import sys

from octavo import envs

_FORMAT = "%(asctime)s %(levelname)s server[%(process)d] %(name)s: %(message)s"


def set_up_logging() -> None:
    """Send Octavo's log to stderr at OCTAVO_LOG_LEVEL, unless the embedding program has set it up already."""
    root = logging.getLogger("octavo")
    root.setLevel(envs.LOG_LEVEL.upper())
    if not root.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(_FORMAT))
        root.addHandler(handler)
