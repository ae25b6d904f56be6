"""One line per request: who, what, how it ended, and where its time went."""

from __future__ import annotations

import logging
import time

from aiohttp import web

from octavo.frontend.server.record import RequestRecord

logger = logging.getLogger("octavo.access")


def log_request(request: web.Request, status: int, record: RequestRecord, *, quiet: bool = False) -> None:
    """Write the line of a request that has just been answered; `quiet` ones only for who wants to see everything."""
    level = logging.DEBUG if quiet else logging.INFO
    if not logger.isEnabledFor(level):
        return
    remote = request.remote or "unix"
    parts = [f'{remote} "{request.method} {request.rel_url.raw_path}" {status}', f"id={record.request_id}"]
    if record.outcome:
        parts.append(f"outcome={record.outcome!r}")
    if record.num_prompt_tokens:
        parts.append(f"prompt={record.num_prompt_tokens} tokens={record.num_generation_tokens}")
    times = record.metrics
    if times is not None and times.scheduled_ts:
        parts.append(f"queue={_ms(times.scheduled_ts - times.queued_ts)}")
    if times is not None and times.first_token_ts:
        parts.append(f"ttft={_ms(times.first_token_latency)}")
    parts.append(f"total={_ms(time.monotonic() - record.started)}")
    logger.log(level, "%s", " ".join(parts))


def _ms(seconds: float) -> str:
    return f"{1e3 * max(0.0, seconds):.1f}ms"
