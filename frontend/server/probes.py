"""Questions about the server itself: is it up, is it ready, what has it done."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from octavo.frontend.metrics import CONTENT_TYPE
from octavo.frontend.server.errors import unavailable
from octavo.frontend.server.responses import json_response
from octavo.frontend.server.state import STATE, Phase
from octavo.version import __version__


async def health(request: web.Request) -> web.Response:
    """200 when the engine runs; draining is healthy."""
    state = request.app[STATE]
    await state.engine.check_health()
    return web.Response()


async def livez(request: web.Request) -> web.Response:
    """503 when only a restart would help: the engine is dead, or has stopped making progress."""
    return _probe(request.app[STATE].why_not_alive())


async def readyz(request: web.Request) -> web.Response:
    """503 when new requests should go elsewhere: starting, draining, dead, or full."""
    return _probe(request.app[STATE].why_not_ready())


async def startup(request: web.Request) -> web.Response:
    """How far the start is, and whether a key is needed: what somebody who waits wants to see."""
    state = request.app[STATE]
    why = state.why_not_ready()
    progress = state.progress()
    body: dict[str, Any] = {"phase": state.phase.value, "ready": why is None, "why": why, "key_needed": bool(state.keys)}
    if progress is not None and state.phase is Phase.STARTING:
        body |= {"step": progress.phase, "fraction": progress.fraction, "elapsed": progress.elapsed}
    return json_response(body)


def _probe(wrong: str | None) -> web.Response:
    if wrong is not None:
        raise unavailable(wrong)
    return web.Response(text="ok\n")


async def version(_request: web.Request) -> web.Response:
    return json_response({"version": __version__})


async def load(request: web.Request) -> web.Response:
    """Requests to the model that are being served."""
    body: dict[str, Any] = {"server_load": request.app[STATE].in_flight}
    return json_response(body)


async def metrics(request: web.Request) -> web.Response:
    """Prometheus metrics."""
    return web.Response(body=request.app[STATE].metrics.text(), headers={"Content-Type": CONTENT_TYPE})
