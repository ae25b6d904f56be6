"""One line per request: who, what, how it ended and why, and where its time went."""

from __future__ import annotations

import logging
import time
from typing import Any

from aiohttp import web

from octavo.frontend.server.record import RequestRecord
from octavo.log_format import FIELDS

logger = logging.getLogger("octavo.access")

_LONGEST_REASON = 200


def log_request(request: web.Request, status: int, record: RequestRecord, *, quiet: bool = False) -> None:
    """Write the line of a request that has just been answered; `quiet` ones only for who wants to see everything."""
    level = logging.DEBUG if quiet else logging.INFO
    if not logger.isEnabledFor(level):
        return
    fields = _fields(record)
    first = f'{_who(request.remote)} "{request.method} {request.rel_url.raw_path}" {status}'
    line = " ".join([first, f"id={record.request_id}", *(_part(name, value) for name, value in fields.items())])
    who = {"client": _who(request.remote), "method": request.method, "path": request.rel_url.raw_path, "status": status}
    logger.log(level, "%s", line, extra={FIELDS: {**who, "id": record.request_id, **fields}})


def _fields(record: RequestRecord) -> dict[str, Any]:
    """How it ended and where its time went, by name; times in milliseconds under names that end in _ms."""
    fields: dict[str, Any] = {}
    if record.outcome:
        fields["outcome"] = record.outcome
    if record.reason:
        fields["reason"] = _cut(record.reason)
    if record.counts.prompt:
        fields |= {"prompt": record.counts.prompt, "tokens": record.counts.generated}
    times = record.metrics
    if times is not None and times.scheduled_ts:
        fields["queue_ms"] = _ms(times.scheduled_ts - times.queued_ts)
    if times is not None and times.first_token_ts:
        fields["ttft_ms"] = _ms(times.first_token_latency)
    return {**fields, "total_ms": _ms(time.monotonic() - record.started)}


def _part(name: str, value: Any) -> str:
    """`ttft_ms` of 3.1 as `ttft=3.1ms`; text as printable ASCII in one line, whatever a client has put into it."""
    if name.endswith("_ms"):
        return f"{name.removesuffix('_ms')}={value:.1f}ms"
    return f"{name}={value!a}" if isinstance(value, str) else f"{name}={value}"


def log_malformed(remote: str | None, status: int, reason: str) -> None:
    """Write the line of what could not be read as a request."""
    logger.info("%s malformed %d reason=%s", _who(remote), status, ascii(_cut(reason)))


def _who(remote: str | None) -> str:
    return remote or "unix"


def _cut(reason: str) -> str:
    return reason if len(reason) <= _LONGEST_REASON else reason[: _LONGEST_REASON - 3] + "..."


def _ms(seconds: float) -> float:
    return round(1e3 * max(0.0, seconds), 1)
