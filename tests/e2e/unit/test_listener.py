"""Sockets: TCP, TLS, Unix; and addresses that cannot be had."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from octavo.errors import ConfigError
from octavo.frontend.metrics import PrometheusStats
from octavo.frontend.server.app import make_app
from octavo.frontend.server.connection import Runner
from octavo.frontend.server.listener import close_socket, open_socket, ssl_context, url_of, warn_if_open_to_all
from octavo.frontend.server.options import ServerOptions
from octavo.frontend.server.state import ServerState


@asynccontextmanager
async def listening(options: ServerOptions) -> AsyncIterator[str]:
    """A server that is still starting; yields its URL."""
    options.check()
    sock = open_socket(options)
    runner = Runner(make_app(ServerState(options, PrometheusStats())))
    await runner.setup()
    await web.SockSite(runner, sock, ssl_context=ssl_context(options)).start()
    try:
        yield url_of(options, sock)
    finally:
        await runner.cleanup()
        close_socket(options, sock)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """Paths of a key and a self-signed certificate for 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("makes its certificate with openssl")
    key, chain = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", chain]
    subprocess.run(command, check=True, capture_output=True)
    return key, chain


async def test_tls(certificate: tuple[str, str]) -> None:
    key, chain = certificate
    async with listening(ServerOptions(port=0, ssl_keyfile=key, ssl_certfile=chain)) as url:
        assert url.startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context(cafile=chain)
        async with aiohttp.ClientSession() as session:
            async with session.get(url + "/livez", ssl=trusting) as response:
                assert response.status == 200
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(url + "/livez")


async def test_clients_must_show_a_certificate_when_asked_for(certificate: tuple[str, str]) -> None:
    key, chain = certificate
    async with listening(ServerOptions(port=0, ssl_keyfile=key, ssl_certfile=chain, ssl_ca_certs=chain)) as url:
        context = ssl.create_default_context(cafile=chain)
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get(url + "/livez", ssl=context)
        context.load_cert_chain(chain, key)
        async with aiohttp.ClientSession() as session, session.get(url + "/livez", ssl=context) as response:
            assert response.status == 200


def test_a_key_that_does_not_fit_is_refused(certificate: tuple[str, str]) -> None:
    _, chain = certificate
    with pytest.raises(ConfigError, match="--ssl-certfile"):
        ssl_context(ServerOptions(ssl_keyfile=chain, ssl_certfile=chain))


async def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "octavo.sock"
    options = ServerOptions(uds=str(path))
    for _ in range(2):
        async with listening(options) as url:
            assert url == f"unix:{path}"
            connector = aiohttp.UnixConnector(str(path))
            async with aiohttp.ClientSession(connector=connector) as session, session.get("http://x/livez") as response:
                assert response.status == 200
            with pytest.raises(ConfigError, match="another server"):
                await asyncio.to_thread(open_socket, options)
        assert not path.exists()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    async with listening(options):
        assert path.exists()


def test_a_file_is_not_replaced_by_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="--uds"):
        open_socket(ServerOptions(uds=str(path)))
    assert path.read_text() == "precious"


def test_a_taken_port_names_the_flag() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="--port"):
            open_socket(ServerOptions(port=taken.getsockname()[1]))


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({"host": "127.0.0.1"}, False),
        ({"host": "::1"}, False),
        ({"host": "localhost"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "some.host"}, True),
        ({"host": "0.0.0.0", "api_key": ["k"]}, False),
        ({"host": "0.0.0.0", "uds": "/tmp/x"}, False),
    ],
)
def test_a_server_open_to_all_is_warned_of(options: dict[str, object], warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn_if_open_to_all(ServerOptions(**options))  # type: ignore[arg-type]
    assert ("--api-key" in caplog.text) == warned
