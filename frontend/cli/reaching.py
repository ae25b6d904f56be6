"""Connections to a server, and in one line what is wrong when there is none."""

from __future__ import annotations

import ssl

import aiohttp

from octavo.errors import ConfigError
from octavo.frontend.cli.address import Address
from octavo.frontend.command_name import command


def make_connector(address: Address | None = None, cacert: str | None = None, limit: int = 100) -> aiohttp.BaseConnector:
    """What opens connections to a server.

    Args:
        address: the server; None = any that is reached through TCP.
        cacert: file with the certificates to trust instead of the system's.
        limit: connections at once; 0 = any number.

    Raises:
        ConfigError: the file cannot be used.
    """
    if address is not None and address.socket is not None:
        return aiohttp.UnixConnector(address.socket, limit=limit)
    return aiohttp.TCPConnector(limit=limit, keepalive_timeout=60, ttl_dns_cache=300, ssl=_trust(cacert))


def _trust(cacert: str | None) -> ssl.SSLContext | bool:
    if cacert is None:
        return True
    try:
        return ssl.create_default_context(cafile=cacert)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--cacert {cacert}: {error.strerror or error}") from None


def why_unreachable(address: Address, error: BaseException) -> str:
    """One line: what is wrong with the way to a server, and what to try."""
    where = str(address)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
        return f"the certificate of {where} is not trusted ({reason}); name its issuer's file with --cacert FILE"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"{where} does not answer in TLS; try {where.replace('https:', 'http:', 1)}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"there is no host {error.host!r}, or its name cannot be looked up"
    if isinstance(error, aiohttp.ClientConnectorError | FileNotFoundError | ConnectionRefusedError):
        return _refused(where, error)
    if isinstance(error, TimeoutError):
        return f"{where} does not answer in time"
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | ConnectionResetError) and _is_plain(address):
        return f"{where} closed the connection without an answer; if it speaks TLS, try {where.replace('http:', 'https:', 1)}"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{where} does not answer as a web server does ({error.message})"
    return f"the connection to {where} broke ({error or type(error).__name__})"


def _is_plain(address: Address) -> bool:
    return address.socket is None and address.root.startswith("http:")


def _refused(where: str, error: BaseException) -> str:
    cause = getattr(error, "os_error", error)
    if isinstance(cause, ConnectionRefusedError | FileNotFoundError):
        return f"nothing listens at {where}; start a server with: {command()} serve"
    return f"{where} cannot be reached ({getattr(cause, 'strerror', None) or cause})"
