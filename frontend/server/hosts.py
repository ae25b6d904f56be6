"""Which names a browser may know the server by: against pages that point their own name at this machine (DNS rebinding).

To a browser, such a page and the server are one origin, so no rule about origins holds it back. The Host header still has
the page's name. An address cannot be pointed elsewhere, so addresses are always welcome.
"""

from __future__ import annotations

import ipaddress
import re

from aiohttp import hdrs, web

from octavo.frontend.server.errors import ApiError
from octavo.frontend.server.options import ServerOptions

ANY = "*"
_AUTHORITY = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]]*))(?::\d*)?")
_SHOWN = 100


class HostPolicy:
    """--allowed-hosts: holds where only this machine is listened to and no key protects."""

    def __init__(self, options: ServerOptions, has_keys: bool) -> None:
        names = {_plain(name) for name in ("localhost", options.host, *options.allowed_hosts)}
        only_here = options.uds is None and is_loopback(options.host)
        self._names = names if only_here and not has_keys and ANY not in names else None

    def check(self, request: web.Request) -> None:
        """Refuse a request for another host. One without a Host header comes from no browser.

        Raises:
            ApiError: 403, code "host_not_allowed".
        """
        if self._names is None:
            return
        for value in request.headers.getall(hdrs.HOST, ()):
            if not self._allows(value):
                message = f"the host {value[:_SHOWN]!r} is not served here; --allowed-hosts lets more names in than localhost"
                raise ApiError(403, message, code="host_not_allowed")

    def _allows(self, value: str) -> bool:
        match = _AUTHORITY.fullmatch(value.strip())
        if match is None:
            return False
        name = _plain(match[1] or match[2] or "")
        return name in (self._names or ()) or _is_address(name)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
