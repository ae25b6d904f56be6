"""The hostile corpus in its short form: a sample of every family and some hundred generated inputs, against a real server.

The long form is `make chaos`.
"""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from chaos import corpus, generated, values
from chaos.attack import Attack
from chaos.control import Control
from chaos.corpus.bodies import bomb
from chaos.inputs import Input, get
from chaos.judge import Judge
from chaos.report import Report, side_by_side, tracebacks
from chaos.send import Answer, Result, parse, send
from chaos.watch import Watch
from servers import OctavoServer

from octavo.frontend.server.app import ROUTES
from octavo.frontend.server.dev.serving import DEV_ROUTES

GENERATED = 600
POOLED = 300
EVERY = {"http": 2, "routes": 6, "bodies": 5, "fields": 4, "texts": 10, "templates": 6, "leaving": 7}
"""Of these families, each so-manieth input. Clients that are merely slow are left to the long form: they take as long as the
server's deadlines."""
FLAGS = ["--dtype", "float32", "--kv-cache-memory-bytes", "16M", "--trust-request-chat-template"]


async def attacked(server: OctavoServer) -> Report:
    report = Report("Octavo")
    timeout = aiohttp.ClientTimeout(total=120)
    async with Watch(server.url, server.process.pid) as watch, aiohttp.ClientSession(timeout=timeout) as session:
        watch.fence(4 * 2**30)
        attack = Attack(watch, Judge(documented=True), report, concurrency=8, patience=120, say=print)
        control = Control(session, server.url, None, tokens=64)
        # What a first request of any kind loads stays in memory.
        await attack.warm_up(session, generated.inputs(0, 100))
        async with attack.beside(control, session):
            await attack.one_by_one(corpus.sample(EVERY, otherwise=0))
            await attack.many(generated.inputs(1, GENERATED))
    return report


@pytest.mark.timeout(900)
def test_corpus(tiny_model_dir: Path) -> None:
    with OctavoServer(tiny_model_dir, FLAGS, stop_timeout=120) as server:
        report = asyncio.run(attacked(server))
        report.tracebacks = tracebacks(server.log_text())
    print(report.table())
    assert not report.wrong(), "\n".join(report.wrong())
    assert report.control_rounds > 0
    assert report.families["generated"].inputs == GENERATED
    assert report.families["generated"].statuses["2xx"] > GENERATED // 5
    assert report.families["generated"].statuses["4xx"] > GENERATED // 5


def test_generated_bodies_for_a_model_that_pools(tiny_bert: Callable[[int], Path]) -> None:
    judge, statuses = Judge(documented=True), Counter[int]()
    with OctavoServer(tiny_bert(0), ["--dtype", "float32"], stop_timeout=120) as server:
        for result in asyncio.run(results(server, list(generated.inputs(1, POOLED, generated.POOLING)))):
            assert not list(judge.faults(result))
            statuses.update(answer.status // 100 for answer in result.answers)
        assert not tracebacks(server.log_text())
    assert min(statuses[2], statuses[4]) > POOLED // 6, statuses


async def results(server: OctavoServer, items: list[Input]) -> list[Result]:
    """What becomes of inputs, eight at once."""
    gate = asyncio.Semaphore(8)

    async def one(item: Input) -> Result:
        async with gate:
            return await send("127.0.0.1", server.port, item, 120)

    return await asyncio.gather(*map(one, items))


def test_every_input_has_a_name_of_its_own_and_can_be_made() -> None:
    items = list(corpus.inputs())
    assert len({item.name for item in items}) == len(items) > 900
    assert all(item.make() for item in items if item.family in ("http", "routes", "fields", "leaving"))


def test_every_route_that_reads_a_body_is_generated_for() -> None:
    # Who operates the server in development mode is trusted with it.
    posts = {path for method, path, _ in ROUTES if method == "POST"} - {"/ping"} - {path for _, path, _ in DEV_ROUTES}
    assert posts == set(generated.ENDPOINTS)


def test_an_index_is_one_input_and_every_field_has_its_turn() -> None:
    assert generated.make(1, 4711).make() == generated.make(1, 4711).make()
    items = [*generated.inputs(3, 2000), *generated.inputs(3, 2500, generated.POOLING)]
    bodies = b"".join(piece for item in items for piece in item.make() if isinstance(piece, bytes))
    for path, fields in generated.FIELDS.items():
        missing = [name for name in fields if b'"%b":' % name.encode() not in bodies]
        assert not missing, (path, missing)


def test_a_bomb_is_whole() -> None:
    data = gzip.decompress(bomb(3))
    assert data.startswith(b'{"max_tokens": 1, "prompt": "aaa')
    assert len(data) > 3 * 2**20
    assert len(bomb(3)) < 20_000


def test_values_are_written_as_they_are() -> None:
    text = values.write(values.Pairs([("a", values.Raw("NaN")), ("a", [1, values.Raw("01")]), ("b", {"c": "\ud83d"})]))
    assert text == b'{"a":NaN,"a":[1,01],"b":{"c":"\\ud83d"}}'


def judged(answer: Answer | None, item: Input, **result: bool) -> list[str]:
    answers = [answer] if answer else []
    return [fault.kind for fault in Judge(documented=True).faults(Result(item, 0.0, 1.0, answers, **result))]


def test_the_judge_sees_what_is_wrong() -> None:
    item = get("x/y", "/", 400)
    right = b'{"error":{"message":"m","type":"T","param":null,"code":400}}'
    headers = {"content-type": "application/json"}
    assert judged(Answer(400, headers, right, whole=True), item) == []
    assert judged(Answer(200, headers, b"{}", whole=True), item) == ["status"]
    assert judged(Answer(400, headers, b"bad", whole=True), item) == ["shape"]
    assert judged(Answer(400, headers, right.replace(b"400", b"401"), whole=True), item) == ["shape"]
    assert judged(Answer(400, {}, right, whole=True), item) == ["shape"]
    assert judged(Answer(400, headers, right, whole=False), item) == ["cut off"]
    assert judged(Answer(500, headers, right.replace(b"400", b"500"), whole=True), item) == ["5xx"]
    assert judged(None, item) == ["no answer"]
    assert judged(None, item, hung=True) == ["hung"]
    assert judged(None, item, refused=True) == ["refused"]
    stream = {"content-type": "text/event-stream"}
    assert judged(Answer(200, stream, b'data: {"a":1}\n\n', whole=True), get("x/y", "/")) == ["shape"]
    assert judged(Answer(200, stream, b'data: {"a":1}\n\ndata: [DONE]\n\n', whole=True), get("x/y", "/")) == []


def test_answers_are_taken_apart() -> None:
    two = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    assert [(a.status, a.body, a.whole) for a in parse(two, False, True)] == [(200, b"{}", True), (404, b"abc", True)]
    assert [(a.body, a.whole) for a in parse(two[:-5], False, True)] == [(b"{}", True), (b"abc", False)]
    assert [(a.status, a.body) for a in parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", True, True)] == [(200, b"")]


def test_tracebacks_are_found() -> None:
    log = 'INFO x\nTraceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\nValueError: no\nINFO y\n'
    assert tracebacks(log * 2) == ["ValueError: no from g()"] * 2
    assert tracebacks("INFO x\n") == []


def test_a_report_survives_its_file() -> None:
    report = Report("Octavo", control_rounds=5, memory_before=2**20, memory_after=2**21)
    report.family("x").faults["hung"] += 1
    again = Report.from_dict(report.as_dict())
    assert again == report
    assert "memory: 1 MiB before, 2 MiB after" in again.wrong()
    assert "| 1 |" in side_by_side([again])
