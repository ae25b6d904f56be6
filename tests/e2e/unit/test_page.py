"""What `GET /` and `GET /page/{file}` answer, and to whom."""

from __future__ import annotations

import gzip
import json
import re

import pytest
from local_server import LocalServer, ServerMaker

from octavo.frontend.server.page.files import page_files
from octavo.frontend.server.state import Phase
from octavo.wire.messages import Progress

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
MOST_BYTES = 150_000


async def test_a_browser_gets_the_page_and_a_program_a_card(server: LocalServer) -> None:
    async with server.client.get(server.url + "/", headers=HTML) as response:
        assert response.status == 200
        assert response.content_type == "text/html"
        assert "Accept" in response.headers["Vary"]
        assert "<title>Octavo</title>" in await response.text()
    async with server.client.get(server.url + "/") as response:
        card = await response.json()
        assert response.headers["Vary"] == "Accept"
    assert card["name"] == "Octavo"
    assert card["status"] == "ready"
    assert card["models"] == ["tiny", "also-tiny"]
    assert card["endpoints"]["chat"] == "POST /v1/chat/completions"


async def test_nothing_but_the_page_itself_may_run(server: LocalServer) -> None:
    for path in ("/", *(f"/page/{name}" for name in page_files())):
        async with server.client.get(server.url + path, headers=HTML) as response:
            assert response.status == 200, path
            policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
            assert policy["default-src"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
            assert policy["frame-ancestors"] == "'none'"
            assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_it_is_small_and_complete() -> None:
    files = page_files()
    assert sum(len(file.body) for file in files.values()) <= MOST_BYTES
    text = {name: file.body.decode() for name, file in files.items()}
    assert not [name for name, words in text.items() if re.search(r"(src|href|from|url)[=( ]+[\"']?(https?:)?//", words)]
    html = text["index.html"]
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=", html)
    named = set(re.findall(r'"page/([\w.]+)"', html))
    named |= {name for words in text.values() for name in re.findall(r'from "\./([\w.]+)"', words)}
    assert named == set(files) - {"index.html"}
    assert not [
        name for name, words in text.items() if re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", words)
    ]


async def test_it_is_packed_and_asked_for_once(server: LocalServer) -> None:
    url = server.url + "/page/main.js"
    async with server.client.get(url, headers={"Accept-Encoding": "identity"}) as response:
        plain, tag = await response.read(), response.headers["ETag"]
        assert "Content-Encoding" not in response.headers
    async with server.client.get(url, headers={"Accept-Encoding": "gzip"}, auto_decompress=False) as response:
        packed = await response.read()
        assert response.headers["Content-Encoding"] == "gzip"
        assert response.headers["ETag"] != tag
    assert gzip.decompress(packed) == plain
    for known, status in ((tag, 304), (f'"x", {tag}', 304), ('"x"', 200)):
        headers = {"Accept-Encoding": "gzip;q=0", "If-None-Match": known}
        async with server.client.get(url, headers=headers) as response:
            assert response.status == status
            assert await response.read() == (plain if status == 200 else b"")


@pytest.mark.parametrize("path", ["/page/", "/page/nothing.js", "/page/..%2Ffiles.py", "/page/%2E%2E/files.py"])
async def test_there_are_no_other_files(server: LocalServer, path: str) -> None:
    assert await server.status(path) == 404


async def test_without_a_key_the_page_is_there_and_the_card_says_less(make_server: ServerMaker) -> None:
    server = await make_server(api_key=["secret"])
    for path in ("/", "/page/main.js", "/startup"):
        assert await server.status(path, headers=HTML) == 200
    for path in ("/v1/models", "/metrics", "/version", "/pages", "/unknown"):
        assert await server.status(path, headers=HTML) == 401
    async with server.client.get(server.url + "/") as response:
        card = await response.json()
    assert card["key_needed"]
    assert not {"version", "models"} & card.keys()
    async with server.client.get(server.url + "/", headers={"Authorization": "Bearer secret"}) as response:
        assert (await response.json())["models"] == ["tiny", "also-tiny"]


async def test_no_web_ui(make_server: ServerMaker) -> None:
    server = await make_server(web_ui=False)
    async with server.client.get(server.url + "/", headers=HTML) as response:
        assert response.content_type == "application/json"
    assert await server.status("/page/main.js") == 404


async def test_under_a_root_path(make_server: ServerMaker) -> None:
    server = await make_server(root_path="/llm/", api_key=["k"])
    for path in ("/llm/", "/llm/page/main.js", "/", "/page/main.js"):
        assert await server.status(path, headers=HTML) == 200
    async with server.client.get(server.url + "/llm", headers=HTML, allow_redirects=False) as response:
        assert response.status == 308
        assert response.headers["Location"] == "/llm/"


async def test_the_start_can_be_watched(make_server: ServerMaker) -> None:
    server = await make_server(started=False)

    async def startup() -> dict[str, object]:
        async with server.client.get(server.url + "/startup") as response:
            assert response.status == 200
            answer: dict[str, object] = json.loads(await response.read())
            return answer

    assert await startup() == {"phase": "starting", "ready": False, "why": "starting", "key_needed": False}
    server.state.progress = lambda: Progress("weights", 0.5, 2.0)
    assert (await startup()) | {"step": "weights", "fraction": 0.5, "elapsed": 2.0} == await startup()
    server.state.started(server.engine)  # type: ignore[arg-type]
    assert await startup() == {"phase": "ready", "ready": True, "why": None, "key_needed": False}
    server.state.phase = Phase.DRAINING
    assert (await startup())["why"] == "draining"
