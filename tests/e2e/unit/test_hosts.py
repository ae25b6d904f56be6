"""Which Host headers are answered: no page may point its own name at a server that trusts who reaches it."""

from __future__ import annotations

import pytest
from local_server import LocalServer, ServerMaker

WELCOME = ["localhost", "LOCALHOST.:8000", "127.0.0.1:1", "[::1]:8000", "[::1]", "192.0.2.7"]
STRANGE = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "localhost@evil.example",
    "[a]",
    "",
]


async def status(server: LocalServer, host: str, path: str = "/v1/models") -> int:
    return await server.status(path, headers={"Host": host})


@pytest.mark.parametrize("host", WELCOME)
async def test_this_machine_and_addresses_are_answered(server: LocalServer, host: str) -> None:
    assert await status(server, host) == 200


@pytest.mark.parametrize("host", STRANGE)
async def test_another_name_is_refused(server: LocalServer, host: str) -> None:
    for path in ("/v1/models", "/", "/health", "/nowhere"):
        assert await status(server, host, path) == 403
    code, body = await server.post("/v1/completions", {"prompt": "a"}, headers={"Host": host})
    assert (code, body["error"]["code"], body["error"]["type"]) == (403, "host_not_allowed", "PermissionDeniedError")
    assert "--allowed-hosts" in body["error"]["message"]
    assert not server.engine.calls


async def test_names_may_be_added(make_server: ServerMaker) -> None:
    server = await make_server(allowed_hosts=["Llm.example"])
    assert await status(server, "llm.example:80") == 200
    assert await status(server, "evil.example") == 403
    assert await status(await make_server(allowed_hosts=["*"]), "evil.example") == 200


async def test_where_a_key_or_the_network_protects_any_name_will_do(make_server: ServerMaker) -> None:
    with_key = await make_server(api_key=["right"])
    assert await status(with_key, "llm.example", "/health") == 200
    assert await status(with_key, "llm.example") == 401
    assert await status(await make_server(host="0.0.0.0"), "llm.example") == 200
    assert await status(await make_server(host="127.0.0.2"), "evil.example") == 403
