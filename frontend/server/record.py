"""What is known of one HTTP request while it is served: its id, its warnings, its timings for the access log."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from uuid import uuid4

from aiohttp import web

from octavo.errors import ValidationError
from octavo.frontend.stats import TokenCounts
from octavo.outputs import RequestMetrics, RequestOutput

REQUEST_ID_HEADER = "X-Request-Id"
_GOOD_ID = re.compile(r"[!-~]{1,128}")


@dataclass(slots=True)
class RequestRecord:
    """Facts about one HTTP request.

    Attributes:
        request_id: the client's X-Request-Id (or body's request_id), else a random one.
        warnings: sent in X-Octavo-Warning.
        outcome: for requests that did not end as their status says: "disconnected", or an error in mid-stream.
        reason: why it was refused or failed.
        counts: tokens of all prompts that were begun, also of a client that left.
        metrics: timings of the request's first prompt.
    """

    request_id: str
    started: float = field(default_factory=time.monotonic)
    warnings: list[str] = field(default_factory=list)
    counts: TokenCounts = field(default_factory=TokenCounts)
    outcome: str = ""
    reason: str = ""
    metrics: RequestMetrics | None = None

    def answer_id(self, prefix: str, given: str | None) -> str:
        """The id in the answer; `given` is the body's request_id, which replaces the header's.

        Raises:
            ValidationError: it cannot be logged and sent back as it is.
        """
        if given is not None:
            if not is_good_id(given):
                raise ValidationError("request_id must be 1 to 128 printable ASCII characters.", parameter="request_id")
            self.request_id = given
        return prefix + self.request_id

    def saw(self, output: RequestOutput) -> None:
        """Keep an engine output's timings."""
        if self.metrics is None and output.metrics is not None:
            self.metrics = output.metrics


RECORD: web.RequestKey[RequestRecord] = web.RequestKey("record", RequestRecord)


def new_record(request: web.Request) -> RequestRecord:
    """The record of a request that has just come in."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    return RequestRecord(given if is_good_id(given) else uuid4().hex)


def is_good_id(text: str) -> bool:
    """Whether a client's request id can be logged and sent back as it is."""
    return _GOOD_ID.fullmatch(text) is not None
