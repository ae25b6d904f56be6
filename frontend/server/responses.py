"""JSON answers, and the name of what made them."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from aiohttp import web

from octavo.config import EngineConfig
from octavo.version import __version__

_encode = msgspec.json.Encoder().encode


def json_response(answer: Any) -> web.Response:
    """200 with a Struct (or plain data) as JSON."""
    return web.Response(body=_encode(answer), content_type="application/json")


def fingerprint(config: EngineConfig) -> str:
    """The same for two servers of the same version, model and settings."""
    return f"octavo-{__version__}-{hashlib.sha256(_encode(config)).hexdigest()[:8]}"
