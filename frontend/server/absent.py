"""Routes of vLLM's server that this version has not: each is answered with the sentence that says so."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from octavo.frontend.server.errors import ApiError
from octavo.not_served import ROUTES


def absent_routes() -> list[tuple[str, str, Handler]]:
    """Method, path and handler of each."""
    return [(*route.split(" ", 1), _refusing(route, why)) for route, why in ROUTES.items()]  # type: ignore[misc]


def _refusing(route: str, why: str) -> Handler:
    async def refuse(_request: web.Request) -> web.StreamResponse:
        raise ApiError(404, f"{route} is not supported: {why}.")

    return refuse
