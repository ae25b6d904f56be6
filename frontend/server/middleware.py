"""What happens around every handler: request id, browser rules, key, errors as JSON, counting and logging."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from octavo.errors import QueueFullError
from octavo.frontend.server.access_log import log_request
from octavo.frontend.server.cors import CorsPolicy
from octavo.frontend.server.errors import COMMON_HEADERS, ApiError, describe, error_response
from octavo.frontend.server.hosts import HostPolicy
from octavo.frontend.server.options import KeyRing
from octavo.frontend.server.record import RECORD, REQUEST_ID_HEADER, RequestRecord, new_record
from octavo.frontend.server.routing import unknown_route
from octavo.frontend.server.state import STATE, ServerState

WARNING_HEADER = "X-Octavo-Warning"
CLIENT_CLOSED_REQUEST = 499
"""Status in logs and metrics of a request whose client went away; nobody is sent it."""

_CORS: web.AppKey[CorsPolicy] = web.AppKey("cors", CorsPolicy)
_HOSTS: web.AppKey[HostPolicy] = web.AppKey("hosts", HostPolicy)
_BEARER = "bearer "
_CONTINUE = "100-continue"


def install(app: web.Application, open_paths: frozenset[str]) -> None:
    """Put the middleware around an application's routes; routes in `open_paths` need no key."""
    state = app[STATE]
    app[_CORS] = CorsPolicy(state.options)
    app[_HOSTS] = HostPolicy(state.options, has_keys=bool(state.keys))
    app.on_response_prepare.append(_add_headers)

    @web.middleware
    async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[RECORD] = record = new_record(request)
        status = CLIENT_CLOSED_REQUEST
        try:
            response = await _answer(request, handler, state, open_paths)
            status = CLIENT_CLOSED_REQUEST if record.outcome == "disconnected" else response.status
            return response
        except asyncio.CancelledError:
            record.outcome = "disconnected"
            raise
        finally:
            _account(request, status, record, state)

    app.middlewares.append(around)


async def expect_nothing(_request: web.Request) -> None:
    """In place of aiohttp's handler of Expect headers: "100 Continue" is for who may go on, which is not known yet."""


async def _answer(request: web.Request, handler: Handler, state: ServerState, open_paths: frozenset[str]) -> web.StreamResponse:
    try:
        request.app[_HOSTS].check(request)
        preflight = request.app[_CORS].preflight(request)
        if preflight is not None:
            return preflight
        if state.keys and _route(request) not in open_paths:
            _check_key(request, state.keys)
        if request.headers.get(hdrs.EXPECT, _CONTINUE).lower() != _CONTINUE:
            raise web.HTTPExpectationFailed
        return await handler(request)
    except ConnectionError:
        # Nobody is there to be answered; aiohttp finds that out when it tries.
        request[RECORD].outcome = "disconnected"
        return web.Response(status=CLIENT_CLOSED_REQUEST)
    except web.HTTPNotFound:
        refusal = unknown_route(request.method, request.rel_url.raw_path, _routes(request.app))
    except Exception as error:  # noqa: BLE001  (`describe` logs what is unforeseen)
        if isinstance(error, QueueFullError):
            state.metrics.count_rejection()
        refusal = describe(error)
    request[RECORD].reason = str(refusal)
    return error_response(refusal)


def _routes(app: web.Application) -> Iterator[tuple[str, str]]:
    """Method and path of every route."""
    for route in app.router.routes():
        if route.resource is not None:
            yield route.method, route.resource.canonical


def has_key(request: web.Request, keys: KeyRing) -> bool:
    """Whether the client may use the model: it sends one of the keys, or there are none."""
    header = request.headers.get(hdrs.AUTHORIZATION, "")
    return not keys or (header.lower().startswith(_BEARER) and keys.accepts(header[len(_BEARER) :].strip()))


def _check_key(request: web.Request, keys: KeyRing) -> None:
    if not has_key(request, keys):
        raise ApiError(401, "a valid API key is needed: Authorization: Bearer KEY")


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Headers that every answer gets, streams too."""
    response.headers.update(COMMON_HEADERS)
    record = request.get(RECORD)
    if record is None:
        return
    if request.body_exists and not request.content.is_eof():
        # Refused before it was read: the rest of it is not worth waiting for.
        response.headers[hdrs.CONNECTION] = "close"
        response.force_close()
    request.app[_CORS].mark(request, response)
    if request.app[STATE].options.enable_request_id_headers:
        response.headers[REQUEST_ID_HEADER] = record.request_id
    if record.warnings:
        response.headers[WARNING_HEADER] = "; ".join(record.warnings)


def _account(request: web.Request, status: int, record: RequestRecord, state: ServerState) -> None:
    state.metrics.count_http(request.method, _route(request) or "unknown", status)
    if status == CLIENT_CLOSED_REQUEST:
        state.metrics.count_disconnect()
    if not state.options.disable_access_log:
        log_request(request, status, record, quiet=status < 400 and request.method in (hdrs.METH_GET, hdrs.METH_HEAD))


def _route(request: web.Request) -> str:
    """Pattern of the route that serves a request; "" when none does."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else ""
