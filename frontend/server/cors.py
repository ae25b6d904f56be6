"""Which browsers may call, from pages of which origins (CORS)."""

from __future__ import annotations

from aiohttp import hdrs, web

from octavo.frontend.server.errors import ApiError
from octavo.frontend.server.options import ServerOptions

PREFLIGHT_MAX_AGE = "600"
_METHODS = "GET, POST, OPTIONS"
_EXPOSED = "X-Request-Id, X-Octavo-Warning, Retry-After"


class CorsPolicy:
    """--allowed-origins, --allowed-methods and --allowed-headers."""

    def __init__(self, options: ServerOptions) -> None:
        self._origins = frozenset(options.allowed_origins)
        self._methods = _METHODS if "*" in options.allowed_methods else ", ".join(options.allowed_methods)
        self._headers = None if "*" in options.allowed_headers else ", ".join(options.allowed_headers)

    def preflight(self, request: web.Request) -> web.Response | None:
        """The answer to a browser that asks before it calls; None when this is no such question.

        Raises:
            ApiError: 403, its page's origin may not call.
        """
        if request.method != hdrs.METH_OPTIONS or hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers:
            return None
        if self._allowed_origin(request) is None:
            raise ApiError(403, "this origin may not call (--allowed-origins)")
        wanted = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "")
        headers = {
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: self._methods,
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: wanted if self._headers is None else self._headers,
            hdrs.ACCESS_CONTROL_MAX_AGE: PREFLIGHT_MAX_AGE,
        }
        return web.Response(status=204, headers=headers)

    def mark(self, request: web.Request, response: web.StreamResponse) -> None:
        """Let the browser show an answer to the page, if the page's origin is welcome."""
        if not self._origins:
            return
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)
        origin = self._allowed_origin(request)
        if origin is not None:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED

    def _allowed_origin(self, request: web.Request) -> str | None:
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None:
            return None
        if "*" in self._origins:
            return "*"
        return origin if origin in self._origins else None
