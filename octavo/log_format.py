"""How log lines look, in every process: text for people, or one JSON object a line for machines (OCTAVO_LOG_FORMAT)."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from octavo import envs


def make_formatter(process: str) -> logging.Formatter:
    """The formatter that OCTAVO_LOG_FORMAT asks for; `process` is the writer's part: "server" or "core"."""
    if envs.LOG_FORMAT == "json":
        return JsonFormatter(process)
    return logging.Formatter(f"%(asctime)s %(levelname)s {process}[%(process)d] %(name)s: %(message)s")


FIELDS = "octavo_fields"
"""Attribute of a record (`extra={FIELDS: {...}}`): what its message says, as keys of the JSON object."""


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON; a traceback is in it as text."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """An object with time (ISO 8601, UTC), level, process, pid, logger, message, the record's own fields, and exception where
        there is one.
        """
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": record.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= getattr(record, FIELDS, {})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)
