"""The operator's routes: caches, sleep, pause, workers. They change what every client gets, so OCTAVO_SERVER_DEV_MODE opens them."""

from __future__ import annotations

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from octavo import envs
from octavo.errors import ValidationError
from octavo.frontend.server.body import read_body
from octavo.frontend.server.dev.protocol import ABORT_BODY, RPC_BODY
from octavo.frontend.server.errors import ApiError
from octavo.frontend.server.responses import json_response
from octavo.frontend.server.state import STATE
from octavo.version import __version__


async def reset_prefix_cache(request: web.Request) -> web.Response:
    """Forget cached prefixes."""
    done = await request.app[STATE].engine.reset_prefix_cache(_flag(request, "reset_running_requests"))
    return json_response({"success": done})


async def reset_nothing(request: web.Request) -> web.Response:
    """Caches of media, of which there are none."""
    await request.app[STATE].engine.reset_mm_cache()
    return json_response({"success": True})


async def sleep(request: web.Request) -> web.Response:
    """Pause, and give memory back."""
    level = request.query.get("level", "1")
    if level not in ("0", "1", "2"):
        raise ValidationError(f"level must be 0, 1 or 2, got {level[:20]!r}.", parameter="level", value=level)
    await request.app[STATE].engine.sleep(int(level), request.query.get("mode", "abort"))
    return web.Response()


async def wake_up(request: web.Request) -> web.Response:
    """Take the memory back, and go on."""
    await request.app[STATE].engine.wake_up(request.query.getall("tags", []) or None)
    return web.Response()


async def is_sleeping(request: web.Request) -> web.Response:
    return json_response({"is_sleeping": await request.app[STATE].engine.is_sleeping()})


async def release_kv_cache_memory(request: web.Request) -> web.Response:
    """Give the KV cache's memory back."""
    await request.app[STATE].engine.release_kv_cache_memory()
    return web.Response()


async def pause(request: web.Request) -> web.Response:
    """Compute nothing until /resume."""
    mode, clear = request.query.get("mode", "abort"), _flag(request, "clear_cache", default=True)
    await request.app[STATE].engine.pause_generation(mode=mode, clear_cache=clear)
    return json_response({"status": "paused"})


async def resume(request: web.Request) -> web.Response:
    await request.app[STATE].engine.resume_generation()
    return json_response({"status": "resumed"})


async def is_paused(request: web.Request) -> web.Response:
    return json_response({"is_paused": await request.app[STATE].engine.is_paused()})


async def abort_requests(request: web.Request) -> web.Response:
    """End requests, which are answered with finish_reason "abort"."""
    state = request.app[STATE]
    body = await read_body(request, ABORT_BODY)
    await state.abort_active(body.request_ids)
    return web.Response()


async def collective_rpc(request: web.Request) -> web.Response:
    """Have every worker do something by name."""
    engine = request.app[STATE].engine
    body = await read_body(request, RPC_BODY)
    return json_response({"results": await engine.collective_rpc(body.method, body.timeout, body.args, body.kwargs)})


async def server_info(request: web.Request) -> web.Response:
    """The engine's configuration."""
    config = msgspec.to_builtins(request.app[STATE].engine.config)
    shown = config if request.query.get("config_format", "text") == "json" else str(config)
    return json_response({"version": __version__, "config": shown})


async def world_size(_request: web.Request) -> web.Response:
    return json_response({"world_size": 1})


async def start_profile(request: web.Request) -> web.Response:
    """Begin a profile of the workers."""
    return await _profile(request, "start_profile")


async def stop_profile(request: web.Request) -> web.Response:
    """End it; the answer names the traces."""
    return await _profile(request, "stop_profile")


async def _profile(request: web.Request, call: str) -> web.Response:
    engine = request.app[STATE].engine
    if envs.PROFILER_DIR is None:
        raise ApiError(403, f"{request.path} needs a folder for traces: set OCTAVO_PROFILER_DIR")
    try:
        return json_response({"results": await engine.collective_rpc(call)})
    except ValidationError as error:
        raise ApiError(409, str(error)) from None


def _flag(request: web.Request, name: str, *, default: bool = False) -> bool:
    text = request.query.get(name, str(default)).lower()
    if text not in ("true", "false", "1", "0"):
        raise ValidationError(f"{name} must be true or false, got {text[:20]!r}.", parameter=name, value=text)
    return text in ("true", "1")


def _guarded(handler: Handler) -> Handler:
    """A handler that answers in development mode only."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        if not envs.SERVER_DEV_MODE:
            raise ApiError(403, f"{request.path} needs OCTAVO_SERVER_DEV_MODE=1")
        return await handler(request)

    return guarded


_GUARDED: list[tuple[str, str, Handler]] = [
    ("POST", "/reset_prefix_cache", reset_prefix_cache),
    ("POST", "/reset_mm_cache", reset_nothing),
    ("POST", "/reset_encoder_cache", reset_nothing),
    ("POST", "/sleep", sleep),
    ("POST", "/wake_up", wake_up),
    ("GET", "/is_sleeping", is_sleeping),
    ("POST", "/release_kv_cache_memory", release_kv_cache_memory),
    ("POST", "/pause", pause),
    ("POST", "/resume", resume),
    ("GET", "/is_paused", is_paused),
    ("POST", "/abort_requests", abort_requests),
    ("POST", "/collective_rpc", collective_rpc),
    ("GET", "/server_info", server_info),
    ("GET", "/get_world_size", world_size),
]

DEV_ROUTES: list[tuple[str, str, Handler]] = [
    *((method, path, _guarded(handler)) for method, path, handler in _GUARDED),
    ("POST", "/start_profile", start_profile),
    ("POST", "/stop_profile", stop_profile),
]
