"""The page's files: read, hashed and packed once, when the server starts."""

from __future__ import annotations

import functools
import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from aiohttp import hdrs, web

INDEX = "index.html"
_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self' data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)
HEADERS = {
    "Content-Security-Policy": "; ".join(_POLICY),
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    hdrs.CACHE_CONTROL: "no-cache",
}
"""Nothing but the page's own files may run, be loaded or called, and no other page may frame it. `no-cache`: the browser asks
whether its copy is still good, so that a new version is seen at once."""

_FOLDER = Path(__file__).parent / "static"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class PageFile:
    """One file, ready to be sent.

    Attributes:
        body: its bytes.
        packed: the same with gzip.
        etag: changes with the bytes.
        content_type: with the character set.
    """

    body: bytes
    packed: bytes
    etag: str
    content_type: str

    def answer(self, request: web.Request, vary: str = hdrs.ACCEPT_ENCODING) -> web.Response:
        """200 with the file, packed if the client takes that, or 304 if it has it."""
        packs = _takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, ""))
        tag = self.etag + ("-gz" if packs else "")
        headers = {**HEADERS, hdrs.ETAG: f'"{tag}"', hdrs.VARY: vary}
        if any(known.value in (tag, "*") for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        headers[hdrs.CONTENT_TYPE] = self.content_type
        if packs:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        return web.Response(body=self.packed if packs else self.body, headers=headers)


@functools.cache
def page_files() -> dict[str, PageFile]:
    """Every file of the page by its name."""
    return {path.name: _read(path) for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES}


def _read(path: Path) -> PageFile:
    body = path.read_bytes()
    digest = hashlib.sha256(body).hexdigest()[:20]
    return PageFile(body, gzip.compress(body, mtime=0), digest, f"{_TYPES[path.suffix]}; charset=utf-8")


def _takes_gzip(accepted: str) -> bool:
    for part in accepted.lower().split(","):
        name, _, quality = part.partition(";")
        if name.strip() in ("gzip", "*"):
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
