"""Who may ask what, and how the server says no."""

from __future__ import annotations

import asyncio
import re

import pytest
from local_server import LocalServer, ServerMaker

from octavo.errors import ConfigError
from octavo.frontend.server.app import OPEN_PATHS, ROUTES
from octavo.frontend.server.options import ServerOptions

KEY = {"Authorization": "Bearer right"}


@pytest.mark.parametrize("prefix", ["", "/llm"])
async def test_every_route_but_the_probes_needs_the_key(make_server: ServerMaker, prefix: str) -> None:
    server = await make_server(api_key=["other", "right"], root_path="/llm/", enable_tokenizer_info_endpoint=True)
    for method, path, _ in ROUTES:
        url = server.url + prefix + re.sub(r"\{.*\}", "tiny", path)
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "right"}, {"Authorization": "Bearer "}):
            async with server.client.request(method, url, json={}, headers=headers) as response:
                if path in OPEN_PATHS:
                    assert response.status == 200, path
                else:
                    assert response.status == 401, path
                    error = (await response.json())["error"]
                    assert (error["type"], error["code"]) == ("AuthenticationError", "invalid_api_key")
                    assert response.headers["WWW-Authenticate"] == "Bearer"
        async with server.client.request(method, url, json={"prompt": "a"}, headers=KEY) as response:
            assert response.status not in (401, 404), path


async def test_head_is_get_without_a_body(server: LocalServer) -> None:
    async with server.client.head(server.url + "/health") as response:
        assert response.status == 200


async def test_unknown_routes_need_the_key_too(make_server: ServerMaker) -> None:
    server = await make_server(api_key=["right"])
    assert await server.status("/nothing") == 401
    assert await server.status("/nothing", headers=KEY) == 404


async def test_the_key_may_come_from_the_environment(make_server: ServerMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_API_KEY", "right")
    server = await make_server()
    assert await server.status("/v1/models") == 401
    assert await server.status("/v1/models", headers=KEY) == 200


async def test_unknown_routes_and_methods(server: LocalServer) -> None:
    async with server.client.get(server.url + "/v1/nothing") as response:
        assert response.status == 404
        assert (await response.json())["error"]["type"] == "NotFoundError"
    async with server.client.get(server.url + "/v1/completions") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "POST"
        assert (await response.json())["error"]["type"] == "MethodNotAllowedError"


async def test_request_ids_come_back(server: LocalServer) -> None:
    body = {"prompt": "a", "max_tokens": 2}
    for stream in (False, True):
        headers = {"X-Request-Id": "mine-1"}
        async with server.client.post(
            server.url + "/v1/completions", json={**body, "stream": stream}, headers=headers
        ) as response:
            assert response.headers["X-Request-Id"] == "mine-1"
            assert '"id":"cmpl-mine-1"' in await response.text()
    async with server.client.post(server.url + "/v1/completions", json={**body, "request_id": "inner"}) as response:
        assert response.headers["X-Request-Id"] == "inner"
    seen = set()
    for unusable in ({}, {"X-Request-Id": "two words"}, {"X-Request-Id": "x" * 200}):
        async with server.client.get(server.url + "/nothing", headers=unusable) as response:
            seen.add(response.headers["X-Request-Id"])
    assert len(seen) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", request_id) for request_id in seen)


async def test_request_id_headers_can_be_left_out(make_server: ServerMaker) -> None:
    server = await make_server(enable_request_id_headers=False)
    async with server.client.get(server.url + "/version") as response:
        assert "X-Request-Id" not in response.headers


async def test_one_request_id_may_be_used_by_two_requests_at_once(server: LocalServer) -> None:
    body = {"prompt": "a", "request_id": "same"}
    answers = await asyncio.gather(*(server.post("/v1/completions", body) for _ in range(2)))
    assert [status for status, _ in answers] == [200, 200]
    assert len({call.id for call in server.engine.calls}) == 2


async def test_no_answer_is_taken_for_another_type(server: LocalServer) -> None:
    for path in ("/", "/page/store.js", "/metrics", "/v1/models", "/nowhere", "/generate"):
        async with server.client.get(server.url + path) as response:
            assert response.headers.getall("X-Content-Type-Options") == ["nosniff"], path
    async with server.client.post(server.url + "/v1/completions", json={"prompt": "a", "stream": True}) as response:
        assert response.headers.getall("X-Content-Type-Options") == ["nosniff"]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    writer.write(b"no HTTP\r\n\r\n")
    assert b"X-Content-Type-Options: nosniff" in await reader.read()
    writer.close()


PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


async def test_browsers_are_let_in_by_origin(make_server: ServerMaker) -> None:
    server = await make_server(allowed_origins=["https://good.example"], api_key=["right"])
    url = server.url + "/v1/chat/completions"
    async with server.client.options(url, headers={**PREFLIGHT, "Origin": "https://good.example"}) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "https://good.example"
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
        assert response.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
    async with server.client.options(url, headers={**PREFLIGHT, "Origin": "https://bad.example"}) as response:
        assert response.status == 403
        assert "Access-Control-Allow-Origin" not in response.headers
    body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    async with server.client.post(url, json=body, headers={**KEY, "Origin": "https://good.example"}) as response:
        assert response.status == 200
        assert response.headers["Access-Control-Allow-Origin"] == "https://good.example"
        assert "Origin" in response.headers["Vary"]


async def test_no_browser_is_let_in_by_default(server: LocalServer) -> None:
    headers = {**PREFLIGHT, "Origin": "https://any.example"}
    async with server.client.options(server.url + "/v1/completions", headers=headers) as response:
        assert response.status == 403
    async with server.client.get(server.url + "/version", headers={"Origin": "https://any.example"}) as response:
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_any_origin(make_server: ServerMaker) -> None:
    server = await make_server(allowed_origins=["*"], allowed_methods=["POST"], allowed_headers=["x-one"])
    headers = {**PREFLIGHT, "Origin": "https://any.example"}
    async with server.client.options(server.url + "/v1/completions", headers=headers) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Access-Control-Allow-Methods"] == "POST"
        assert response.headers["Access-Control-Allow-Headers"] == "x-one"


async def test_routes_answer_with_and_without_the_root_path(make_server: ServerMaker) -> None:
    server = await make_server(root_path="/llm")
    for path in ("/v1/models", "/llm/v1/models", "/readyz", "/llm/readyz"):
        assert await server.status(path) == 200
    assert await server.status("/other/v1/models") == 404


@pytest.mark.parametrize("path", ["/v1", "/page/", "/health", "/v1/models/x"])
async def test_a_root_path_that_is_a_route_is_refused(make_server: ServerMaker, path: str) -> None:
    ServerOptions(root_path=path).check()
    with pytest.raises(ConfigError, match="--root-path"):
        await make_server(root_path=path)


@pytest.mark.parametrize("key", ["", " ", "right\n"])
def test_an_empty_key_in_the_environment_is_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_API_KEY", key)
    for options in (ServerOptions(), ServerOptions(api_key=["right"])):
        with pytest.raises(ConfigError, match="OCTAVO_API_KEY"):
            options.check()


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"port": 70000}, "--port"),
        ({"port": -1}, "--port"),
        ({"max_body_size": 0}, "--max-body-size"),
        ({"request_timeout": float("nan")}, "--request-timeout"),
        ({"ssl_keyfile": "/nowhere"}, "--ssl-keyfile"),
        ({"ssl_keyfile": "/nowhere", "ssl_certfile": "/nowhere"}, "--ssl-keyfile"),
        ({"api_key": [""]}, "--api-key"),
        ({"api_key": []}, "--api-key"),
        ({"api_key": ["right", " "]}, "--api-key"),
        ({"api_key": ["right "]}, "--api-key"),
        ({"api_key": ["ri\nght"]}, "--api-key"),
        ({"ssl_certfile": "", "ssl_keyfile": ""}, "--ssl-"),
        ({"ssl_ca_certs": ""}, "--ssl-ca-certs"),
        ({"ssl_ca_certs": __file__}, "--ssl-ca-certs"),
        ({"uds": ""}, "--uds"),
        ({"host": ""}, "--host"),
        ({"body_timeout": -1}, "--body-timeout"),
        ({"body_timeout": float("inf")}, "--body-timeout"),
        ({"sse_keep_alive_interval": 1e-30}, "--sse-keep-alive-interval"),
        ({"response_role": "a\x1b"}, "--response-role"),
        ({"response_role": ""}, "--response-role"),
        ({"root_path": "llm"}, "--root-path"),
        ({"root_path": "//evil.example"}, "--root-path"),
        ({"root_path": "//"}, "--root-path"),
        ({"allowed_hosts": ["http://a.example"]}, "--allowed-hosts"),
        ({"allowed_hosts": [""]}, "--allowed-hosts"),
        ({"root_path": "/a//b"}, "--root-path"),
        ({"root_path": "/a/../b"}, "--root-path"),
        ({"root_path": "/{a}"}, "--root-path"),
        ({"root_path": "/a\r\nSet-Cookie: b"}, "--root-path"),
        ({"root_path": "/a b"}, "--root-path"),
        ({"root_path": "/a\n"}, "--root-path"),
    ],
)
def test_options_that_cannot_work_name_their_flag(options: dict[str, object], flag: str) -> None:
    with pytest.raises(ConfigError, match=flag):
        ServerOptions(**options).check()  # type: ignore[arg-type]
