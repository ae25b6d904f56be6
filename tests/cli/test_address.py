"""Where a server is, from what a person writes; and what is wrong when nobody answers."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from fake_openai import FakeOpenAI
from servers import free_port

from octavo.errors import ConfigError
from octavo.frontend.cli import main
from octavo.frontend.cli.address import parse_address


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://localhost:8000/v1", "http://localhost:8000"),
        ("localhost:8000/v1/", "http://localhost:8000"),
        ("HTTPS://host/v1", "https://host"),
        ("host", "http://host:8000"),
        ("8080", "http://localhost:8080"),
        (":8080/v1", "http://localhost:8080"),
        ("::1", "http://[::1]:8000"),
        ("[::1]:9000", "http://[::1]:9000"),
        ("https://proxy/llm/v1", "https://proxy/llm"),
        ("host:80/llm", "http://host:80/llm"),
    ],
)
def test_one_rule(text: str, root: str) -> None:
    address = parse_address(text)
    assert (address.root, address.api, str(address)) == (root, root + "/v1", root)


def test_a_unix_socket() -> None:
    address = parse_address("unix:/run/octavo")
    assert (address.api, address.socket, str(address)) == ("http://localhost/v1", "/run/octavo", "unix:/run/octavo")


@pytest.mark.parametrize("text", ["", "ftp://host", "http://", "host:port", "host:99999", "a b:80", "host:80?x=1", "unix:"])
def test_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--url"):
        parse_address(text)


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as server:
        yield server


@pytest.mark.parametrize("form", ["{host}", "http://{host}", "http://{host}/v1", "{host}/v1"])
@pytest.mark.parametrize("command", ["chat", "complete"])
def test_commands_take_every_form(fake: FakeOpenAI, form: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    url = form.format(host=fake.url.removeprefix("http://"))
    assert main.main([command, "--url", url, "-q", "hi"]) == 0
    assert capsys.readouterr().out == "Paris is the capital\n"


class _Quiet(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"object": "list", "data": []}')

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost of its own making, with its key in the same file."""
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


@pytest.fixture(scope="module")
def tls_port(certificate: Path) -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), _Quiet)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield int(server.server_address[1])
    server.shutdown()
    server.server_close()


def error_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main.main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("octavo: error: ")
    assert error.count("\n") == 1
    return error


COMMANDS = (["chat", "-q", "hi", "--url"], ["complete", "-q", "hi", "--url"], ["bench", "serve", "--base-url"])


@pytest.mark.parametrize("command", COMMANDS)
def test_nobody_listens(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    error = error_of([*command, f"localhost:{port}"], capsys)
    assert f"nothing listens at http://localhost:{port}; start a server with: " in error


@pytest.mark.parametrize("command", COMMANDS)
def test_plain_http_to_a_tls_server(command: list[str], tls_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"try https://localhost:{tls_port}" in error_of([*command, f"localhost:{tls_port}"], capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_tls_to_a_plain_server(command: list[str], fake: FakeOpenAI, capsys: pytest.CaptureFixture[str]) -> None:
    url = fake.url.replace("http:", "https:")
    assert f"try {fake.url}" in error_of([*command, url], capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_certificate_of_its_own_making(
    command: list[str], tls_port: int, certificate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"https://localhost:{tls_port}/v1"
    assert "--cacert FILE" in error_of([*command, url], capsys)
    trusted = error_of([*command, url, "--cacert", str(certificate)], capsys)
    assert "names no model" in trusted, "it is trusted now, and lists none"
    assert "--cacert" in error_of([*command, url, "--cacert", "/nowhere"], capsys)


def test_no_such_host(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no host 'nowhere.invalid'" in error_of(["chat", "-q", "hi", "--url", "nowhere.invalid"], capsys)


def test_a_server_on_a_unix_socket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing listens at unix:/nowhere/at-all" in error_of(["chat", "-q", "hi", "--url", "unix:/nowhere/at-all"], capsys)
    path = tmp_path / "server"
    with FakeOpenAI(socket=str(path)):
        assert main.main(["chat", "-q", "hi", "--url", f"unix:{path}"]) == 0
    assert capsys.readouterr().out == "Paris is the capital\n"
