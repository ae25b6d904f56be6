"""JSON answers, and the name of what made them."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from aiohttp import web

from octavo.config import EngineConfig
from octavo.version import __version__

_encode = msgspec.json.Encoder().encode


def encoded(answer: Any) -> bytes:
    """A Struct (or plain data) as JSON."""
    return _encode(answer)


def json_bytes_response(body: bytes) -> web.Response:
    """200 with JSON that is encoded already."""
    return web.Response(body=body, content_type="application/json")


def json_response(answer: Any) -> web.Response:
    """200 with a Struct (or plain data) as JSON."""
    return json_bytes_response(_encode(answer))


def fingerprint(config: EngineConfig) -> str:
    """Equal for two servers of one version, model and settings."""
    return f"octavo-{__version__}-{hashlib.sha256(_encode(config)).hexdigest()[:8]}"
