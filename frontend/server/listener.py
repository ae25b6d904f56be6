"""The socket the server listens on, opened before anything else so that a taken port is known at once."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import stat
from pathlib import Path

from octavo.errors import ConfigError
from octavo.frontend.server.hosts import is_loopback
from octavo.frontend.server.options import ServerOptions

logger = logging.getLogger(__name__)

BACKLOG = 2048


def open_socket(options: ServerOptions) -> socket.socket:
    """A bound socket, not listening yet.

    Raises:
        ConfigError: the address cannot be used.
    """
    if options.uds is not None:
        return _open_unix(options.uds)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        raise ConfigError(f"cannot listen on {options.host}:{options.port}: {error}; change --host or --port") from error
    return sock


def close_socket(options: ServerOptions, sock: socket.socket) -> None:
    """Close it, and remove a Unix socket's file."""
    sock.close()
    if options.uds is not None:
        Path(options.uds).unlink(missing_ok=True)


def url_of(options: ServerOptions, sock: socket.socket) -> str:
    """Where clients find the server."""
    if options.uds is not None:
        return f"unix:{options.uds}"
    host, port = sock.getsockname()[:2]
    scheme = "https" if options.ssl_certfile else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{options.prefix}"


def ssl_context(options: ServerOptions) -> ssl.SSLContext | None:
    """TLS settings, None for plain HTTP.

    Raises:
        ConfigError: certificate or key cannot be used.
    """
    if not options.ssl_certfile:
        return None
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=options.ssl_ca_certs)
        context.load_cert_chain(options.ssl_certfile, options.ssl_keyfile)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"cannot use --ssl-certfile {options.ssl_certfile} with --ssl-keyfile: {error}") from error
    if options.ssl_ca_certs:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def warn_if_open_to_all(options: ServerOptions) -> None:
    """Everyone who reaches the port may use the model: say so where that is more than this machine."""
    if options.uds is None and not options.key_ring() and not is_loopback(options.host):
        logger.warning("listening on %s without --api-key: everyone who can reach this port can use the model", options.host)


def _open_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode):
            if sock.connect_ex(path) == 0:
                raise OSError("another server listens there")
            sock.close()
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            os.unlink(path)
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise ConfigError(f"cannot listen on --uds {path}: {error}") from error
    return sock
