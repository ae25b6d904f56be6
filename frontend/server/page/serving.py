"""`GET /`: the page for browsers, a card for programs; `GET /page/{file}`: what the page is made of."""

from __future__ import annotations

from typing import Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from octavo.frontend.server.errors import ApiError
from octavo.frontend.server.middleware import has_key
from octavo.frontend.server.options import ServerOptions
from octavo.frontend.server.page.files import INDEX, page_files
from octavo.frontend.server.responses import json_response
from octavo.frontend.server.state import STATE
from octavo.version import __version__

PAGE_PATHS = ("/", "/page/{file}")
"""Answered without a key: they hold nothing that is secret."""

_HTML = "text/html"
_ENDPOINTS = {
    "chat": "POST /v1/chat/completions",
    "completions": "POST /v1/completions",
    "models": "GET /v1/models",
    "health": "GET /health",
    "startup": "GET /startup",
    "metrics": "GET /metrics",
}


def page_routes(options: ServerOptions) -> list[tuple[str, str, Handler]]:
    """Routes of the page; without it (--no-web-ui) only the card's."""
    if not options.web_ui:
        return [("GET", "/", card)]
    page_files()
    return [("GET", "/", root), ("GET", "/page/{file}", page_file)]


async def root(request: web.Request) -> web.Response:
    """The page for whom asks for HTML, which browsers do and programs do not."""
    if _HTML in request.headers.get(hdrs.ACCEPT, ""):
        return page_files()[INDEX].answer(request, vary=f"{hdrs.ACCEPT}, {hdrs.ACCEPT_ENCODING}")
    response = await card(request)
    response.headers[hdrs.VARY] = hdrs.ACCEPT
    return response


async def page_file(request: web.Request) -> web.Response:
    """One of the page's files."""
    name = request.match_info["file"]
    found = page_files().get(name)
    if found is None:
        raise ApiError(404, f"the page has no file {name[:100]!r}")
    return found.answer(request)


async def card(request: web.Request) -> web.Response:
    """What this is. Version and models are for whom the server serves: clients with a key, if it has keys."""
    state = request.app[STATE]
    body: dict[str, Any] = {"name": "Octavo", "status": state.why_not_ready() or "ready", "key_needed": bool(state.keys)}
    if has_key(request, state.keys):
        body["version"] = __version__
        body["models"] = state.served_model_names
    body["endpoints"] = _ENDPOINTS
    return json_response(body)


def to_root(prefix: str) -> Handler:
    """The page's links are relative: under --root-path it is at the path that ends with a slash."""

    async def redirect(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=308, headers={hdrs.LOCATION: prefix + "/"})

    return redirect
