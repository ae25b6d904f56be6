"""Where a server is: one rule for every command that talks to one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from octavo.errors import ConfigError

DEFAULT_PORT = 8000


@dataclass(frozen=True)
class Address:
    """A server.

    Attributes:
        root: URL without /v1 and without a closing slash.
        socket: path of the Unix socket it listens on, None for TCP.
    """

    root: str
    socket: str | None = None

    @property
    def api(self) -> str:
        """Base URL of the OpenAI API."""
        return self.root + "/v1"

    def __str__(self) -> str:
        return self.root if self.socket is None else f"unix:{self.socket}"


def parse_address(text: str, flag: str = "--url") -> Address:
    """A server from what a person writes.

    `host:port` does, with http:// or https:// before it and /v1 or a slash behind it if you like; a host alone means port 8000, a
    port alone this machine, `unix:PATH` a Unix socket. A path in front of /v1 is kept: proxies have such.

    Raises:
        ConfigError: naming the flag.
    """
    given = text.strip()
    if given.startswith("unix:") and given != "unix:":
        return Address("http://localhost", given.removeprefix("unix:"))
    match = re.fullmatch(r"(?:(https?)://)?([^/?#\s]+)(/[^?#\s]*)?", given, re.IGNORECASE)
    if match is None:
        raise ConfigError(f"{flag} must look like HOST:PORT or http://HOST:PORT/v1, got {text!r}")
    scheme, place, path = (match[1] or "").lower(), match[2], (match[3] or "").rstrip("/")
    if not scheme:
        place = _with_port(place)
    _check_port(place, flag, text)
    return Address(f"{scheme or 'http'}://{place}{path.removesuffix('/v1').rstrip('/')}")


def _with_port(place: str) -> str:
    """`8000`, `:8000` and `host` are enough where no scheme says which port is meant."""
    if place.isdigit():
        return f"localhost:{place}"
    if place.count(":") > 1 and not place.startswith("["):
        place = f"[{place}]"  # an IPv6 address
    if place.startswith(":"):
        return "localhost" + place
    return place if ":" in place.rpartition("]")[2] else f"{place}:{DEFAULT_PORT}"


def _check_port(place: str, flag: str, text: str) -> None:
    host, colon, port = place.rpartition("]")[2].rpartition(":")
    if colon and not (port.isdigit() and 0 < int(port) <= 65535):
        raise ConfigError(f"{flag}: {port!r} is no port, in {text!r}")
    if colon and not host and "]" not in place:
        raise ConfigError(f"{flag} names no host: {text!r}")
