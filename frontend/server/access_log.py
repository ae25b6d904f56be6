"""One line per request: who, what, how it ended and why, and where its time went."""

from __future__ import annotations

import logging
import time

from aiohttp import web

from octavo.frontend.server.record import RequestRecord

logger = logging.getLogger("octavo.access")

_LONGEST_REASON = 200


def log_request(request: web.Request, status: int, record: RequestRecord, *, quiet: bool = False) -> None:
    """Write the line of a request that has just been answered; `quiet` ones only for who wants to see everything."""
    level = logging.DEBUG if quiet else logging.INFO
    if not logger.isEnabledFor(level):
        return
    parts = [f'{_who(request.remote)} "{request.method} {request.rel_url.raw_path}" {status}', f"id={record.request_id}"]
    if record.outcome:
        parts.append(f"outcome={record.outcome!r}")
    if record.reason:
        parts.append(f"reason={_shortened(record.reason)}")
    if record.counts.prompt:
        parts.append(f"prompt={record.counts.prompt} tokens={record.counts.generated}")
    times = record.metrics
    if times is not None and times.scheduled_ts:
        parts.append(f"queue={_ms(times.scheduled_ts - times.queued_ts)}")
    if times is not None and times.first_token_ts:
        parts.append(f"ttft={_ms(times.first_token_latency)}")
    parts.append(f"total={_ms(time.monotonic() - record.started)}")
    logger.log(level, "%s", " ".join(parts))


def log_malformed(remote: str | None, status: int, reason: str) -> None:
    """Write the line of what could not be read as a request."""
    logger.info("%s malformed %d reason=%s", _who(remote), status, _shortened(reason))


def _who(remote: str | None) -> str:
    return remote or "unix"


def _shortened(reason: str) -> str:
    """One line of printable ASCII, whatever a client has put into the message."""
    return ascii(reason if len(reason) <= _LONGEST_REASON else reason[: _LONGEST_REASON - 3] + "...")


def _ms(seconds: float) -> str:
    return f"{1e3 * max(0.0, seconds):.1f}ms"
