"""One client's connection: what goes wrong outside of any route has the same shape and takes one line of the log.

Routes and middleware see only requests that could be read. What is no HTTP at all, and what aiohttp itself refuses before
the middleware, ends up here.
"""

from __future__ import annotations

import logging
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from octavo.frontend.server.access_log import log_malformed
from octavo.frontend.server.errors import ApiError, describe, error_response
from octavo.frontend.server.state import STATE, ServerState

logger = logging.getLogger(__name__)

LINGERING_TIME = 2.0
"""Seconds in which a client that was refused may finish sending its body before the connection is closed: who is cut off in
mid-sentence does not read the answer."""
_READ_BUFFER = 64 * 1024
"""Bytes taken in before a handler gets its turn; in chunks of a single byte they are work enough for one turn of the loop."""
_SHOWN = 200


class Connection(web.RequestHandler):
    """aiohttp's protocol, with our errors."""

    __slots__ = ("_server_state",)

    def __init__(self, server: web.Server, state: ServerState, **options: Any) -> None:
        super().__init__(server, **options)
        self._server_state = state

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to what is no HTTP, or to a fault outside of the handlers; the connection is closed after it."""
        if isinstance(exc, HttpProcessingError):
            error = ApiError(status, f"the request is malformed: {_one_line(message or str(exc))}")
            self._server_state.metrics.count_http("unknown", "malformed", status)
            log_malformed(request.remote, status, str(error))
        else:
            logger.error("unexpected error on a connection", exc_info=exc)
            error = ApiError(status, "internal server error")
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is on its way already; there can be no other")
        response = error_response(error)
        response.headers[hdrs.CONNECTION] = "close"
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; one of aiohttp's own refusals gets our shape first."""
        if isinstance(resp, web.HTTPException):
            resp = error_response(describe(resp))
        return await super().finish_response(request, resp, start_time)


class _Server(web.Server):
    """Makes a `Connection` for each client."""

    def __init__(self, state: ServerState, base: web.Server) -> None:
        super().__init__(
            base.request_handler,
            request_factory=base.request_factory,
            handler_cancellation=base.handler_cancellation,
            loop=base._loop,
        )
        self._kwargs = base._kwargs
        self._state = state

    def __call__(self) -> web.RequestHandler:
        return Connection(self, self._state, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs the application over `Connection`s.

    Args:
        app: made by `make_app`.
        shutdown_timeout: seconds that handlers get at the end.
    """

    def __init__(self, app: web.Application, *, shutdown_timeout: float = 60.0) -> None:
        options = app[STATE].options
        super().__init__(
            app,
            handler_cancellation=True,
            access_log=None,
            # Bodies are unpacked by `body_reader`, within bounds.
            auto_decompress=False,
            keepalive_timeout=options.keep_alive_timeout,
            lingering_time=LINGERING_TIME,
            read_bufsize=_READ_BUFFER,
            shutdown_timeout=shutdown_timeout,
        )
        self._state = app[STATE]

    async def _make_server(self) -> web.Server:
        return _Server(self._state, await super()._make_server())


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_SHOWN].rstrip(" :^")
