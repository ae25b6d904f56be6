"""Pooling models behind real server processes: vectors against transformers, the makers' own clients, hostile bodies, leaving."""

from __future__ import annotations

import asyncio
import base64
import json
import shlex
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import OctavoServer
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

TEXTS = ["The capital of France is Paris.", "hello", "a server reads a request and answers with tokens " * 3, "你好，世界"]
FLAGS = ["--dtype", "float32", "--served-model-name", "tiny"]


@pytest.fixture(scope="module")
def embedder(tiny_bert: Callable[[int], Path]) -> Iterator[OctavoServer]:
    with OctavoServer(tiny_bert(0), FLAGS) as server:
        yield server


@pytest.fixture(scope="module")
def ranker(tiny_bert: Callable[[int], Path]) -> Iterator[OctavoServer]:
    with OctavoServer(tiny_bert(1), FLAGS) as server:
        yield server


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def embedded(folder: Path, texts: list[str], limit: int = 128) -> np.ndarray:
    """What transformers makes of texts: the mean of the hidden states, 1 long."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        rows = [
            model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=limit)).last_hidden_state[0]
            for text in texts
        ]
    means = torch.stack([row.mean(0) for row in rows])
    return torch.nn.functional.normalize(means).numpy()


def test_openais_client_gets_transformers_vectors(embedder: OctavoServer, tiny_bert: Callable[[int], Path]) -> None:
    client = openai.OpenAI(base_url=embedder.url + "/v1", api_key="none")
    expected = embedded(tiny_bert(0), TEXTS)
    coded = client.embeddings.create(model="tiny", input=TEXTS)
    assert np.array([one.embedding for one in coded.data]) == pytest.approx(expected, abs=2e-5)
    plain = client.embeddings.create(model="tiny", input=TEXTS, encoding_format="float")
    assert [np.float32(one.embedding).tobytes() for one in plain.data] == [
        np.float32(one.embedding).tobytes() for one in coded.data
    ]
    ids = AutoTokenizer.from_pretrained(tiny_bert(0))(TEXTS[0]).input_ids
    again = client.embeddings.create(model="tiny", input=[ids, ids])
    assert [one.embedding for one in again.data] == [coded.data[0].embedding] * 2
    assert plain.usage.prompt_tokens == plain.usage.total_tokens > len(ids)
    assert client.embeddings.create(model="tiny", input="x", dimensions=64).data, "all of its dimensions"
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="tiny", input="x", dimensions=32)
    assert refused.value.body["param"] == "dimensions"  # type: ignore[index]
    with pytest.raises(openai.APIStatusError) as no_text:
        client.completions.create(model="tiny", prompt="x")
    assert no_text.value.status_code == 501
    assert "--runner" in str(no_text.value)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not there")
def test_the_log_says_what_to_try(embedder: OctavoServer) -> None:
    [line] = [line for line in embedder.log_text().splitlines() if "try: " in line]
    command = shlex.split(line.partition("try: ")[2])
    assert command[0] == "curl"
    answer = subprocess.run([*command, "--silent"], capture_output=True, check=True, timeout=60).stdout
    assert len(json.loads(answer)["data"][0]["embedding"]) == 64


def test_too_long_is_refused_or_cut_as_transformers_cuts(embedder: OctavoServer, tiny_bert: Callable[[int], Path]) -> None:
    long = "one two three " * 200
    with pytest.raises(urllib.error.HTTPError) as refused:
        embedder.post("/v1/embeddings", {"input": ["short", long]})
    error = json.loads(refused.value.read())["error"]
    assert (error["param"], error["code"]) == ("input[1]", "context_length_exceeded")
    for limit in (16, -1):
        answer = embedder.post("/v1/embeddings", {"input": long, "truncate_prompt_tokens": limit})
        [expected] = embedded(tiny_bert(0), [long], 128 if limit == -1 else limit)
        assert answer["data"][0]["embedding"] == pytest.approx(expected, abs=2e-5)


def test_coheres_client(embedder: OctavoServer, ranker: OctavoServer) -> None:
    cohere = pytest.importorskip("cohere")
    v2 = cohere.ClientV2(api_key="none", base_url=embedder.url)
    answer = v2.embed(
        model="tiny", texts=TEXTS, input_type="search_document", embedding_types=["float", "int8", "ubinary", "base64"]
    )
    floats = np.float32(answer.embeddings.float_)
    openais = embedder.post("/v1/embeddings", {"input": TEXTS})
    assert floats.tolist() == np.float32([one["embedding"] for one in openais["data"]]).tolist()
    assert np.frombuffer(base64.b64decode(answer.embeddings.base64[0]), "<f4").tolist() == floats[0].tolist()
    assert len(answer.embeddings.int8[0]) == 8 * len(answer.embeddings.ubinary[0]) == floats.shape[1]
    ranked = cohere.ClientV2(api_key="none", base_url=ranker.url).rerank(model="tiny", query="hello", documents=TEXTS, top_n=2)
    first = cohere.Client(api_key="none", base_url=ranker.url).rerank(model="tiny", query="hello", documents=TEXTS, top_n=2)
    assert [one.index for one in ranked.results] == [one.index for one in first.results]
    assert ranked.results[0].relevance_score > ranked.results[1].relevance_score
    assert first.results[0].document.text == TEXTS[first.results[0].index]
    assert ranked.meta.billed_units.search_units == 1


def test_a_cross_encoder_scores_as_transformers(ranker: OctavoServer, tiny_bert: Callable[[int], Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert(1))
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert(1), dtype=torch.float32).eval()
    for body, limit in (({}, 128), ({"truncate_prompt_tokens": 9}, 9)):
        with torch.no_grad():
            pairs = [tokenizer("hello world", text, return_tensors="pt", truncation=True, max_length=limit) for text in TEXTS]
            expected = [float(torch.sigmoid(model(**pair).logits)[0, 0]) for pair in pairs]
        answer = ranker.post("/score", {"queries": "hello world", "documents": TEXTS, **body})
        assert [one["score"] for one in answer["data"]] == pytest.approx(expected, abs=2e-5)
    raw = ranker.post("/score", {"queries": "hello world", "documents": TEXTS, "use_activation": False})
    assert min(one["score"] for one in raw["data"]) < 0 or max(one["score"] for one in raw["data"]) > 1


def test_classes(serve: Callable[..., OctavoServer], tiny_bert: Callable[[int], Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert(3))
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert(3), dtype=torch.float32).eval()
    with torch.no_grad():
        expected = [torch.softmax(model(**tokenizer(text, return_tensors="pt")).logits[0], 0).numpy() for text in TEXTS]
    server = serve(tiny_bert(3), FLAGS)
    answer = server.post("/classify", {"input": TEXTS})
    for one, probs in zip(answer["data"], expected, strict=True):
        assert one["probs"] == pytest.approx(probs, abs=2e-5)
        assert one["label"] == f"class {int(probs.argmax())}"
    for path, body in (("/v1/embeddings", {"input": "a"}), ("/score", {"queries": "a", "documents": "b"})):
        with pytest.raises(urllib.error.HTTPError) as refused:
            server.post(path, body)
        assert refused.value.code == 501


def test_a_model_that_generates_names_the_flag(tiny_server: OctavoServer) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        openai.OpenAI(base_url=tiny_server.url + "/v1", api_key="none").embeddings.create(model="tiny", input="x")
    assert refused.value.status_code == 501
    assert "--runner pooling" in str(refused.value)


def test_all_minilm(serve: Callable[..., OctavoServer], minilm: Path) -> None:
    server = serve(minilm, ["--dtype", "float32"])
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none")
    texts = ["A man is eating food.", "The girl is carrying a baby.", "Someone has a meal.", "long " * 250]
    vectors = np.array([one.embedding for one in client.embeddings.create(model=str(minilm), input=texts).data])
    assert (vectors * embedded(minilm, texts, 256)).sum(1).min() > 0.99999
    assert vectors[0] @ vectors[2] > 0.5 > vectors[0] @ vectors[1]


def gauges(server: OctavoServer) -> dict[str, float]:
    """What runs and waits."""
    wanted = ("octavo:num_requests_running", "octavo:num_requests_waiting")
    lines = [line for line in server.get("/metrics").splitlines() if line.startswith(wanted)]
    return {line: float(line.rsplit(" ", 1)[1]) for line in lines}


async def test_a_client_that_leaves_frees_everything(embedder: OctavoServer, session: aiohttp.ClientSession) -> None:
    body = {"input": [f"{number} " + "one two three " * 30 for number in range(2048)]}
    tasks = [asyncio.create_task(session.post(embedder.url + "/v1/embeddings", json=body)) for _ in range(3)]
    async with asyncio.timeout(60):
        while not any((await asyncio.to_thread(gauges, embedder)).values()):  # noqa: ASYNC110  (nobody announces it)
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while any((await asyncio.to_thread(gauges, embedder)).values()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        while json.loads(await asyncio.to_thread(embedder.get, "/load"))["server_load"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    answer = await asyncio.to_thread(embedder.post, "/v1/embeddings", {"input": "hello"})
    assert len(answer["data"]) == 1


SMALL_QUEUES = ["--max-num-seqs", "4", "--max-num-queued-reqs", "2", "--max-num-queued-tokens", "24"]


def test_small_queues_take_large_batches(serve: Callable[..., OctavoServer], tiny_bert: Callable[[int], Path]) -> None:
    server = serve(tiny_bert(0), [*FLAGS, *SMALL_QUEUES])
    texts = [f"text {number}" * (1 + number % 3) for number in range(200)]
    many = server.post("/v1/embeddings", {"input": texts})
    assert len(many["data"]) == 200
    for index in (0, 199):
        [one] = server.post("/v1/embeddings", {"input": texts[index]})["data"]
        assert one["embedding"] == pytest.approx(many["data"][index]["embedding"], abs=1e-6)
    assert not any(gauges(server).values())


# ---- any body at all ---------------------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers(-5, 700) | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=8
)
TEXT = st.text(max_size=30) | st.sampled_from(["hello world", "word " * 200])
TEXTS_ = st.lists(TEXT, min_size=1, max_size=4)
IDS = st.lists(st.integers(0, 575), min_size=1, max_size=140)
PART = st.fixed_dictionaries({"type": st.just("text"), "text": TEXT})
DOCUMENT = (
    TEXT | st.fixed_dictionaries({"text": TEXT}) | st.fixed_dictionaries({"content": st.lists(PART, min_size=1, max_size=2)})
)
DOCUMENTS = st.lists(DOCUMENT, min_size=1, max_size=4)
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": TEXT})
INPUT = TEXT | TEXTS_ | IDS | st.lists(IDS, min_size=1, max_size=3)
COMMON = {
    "truncate_prompt_tokens": st.integers(-1, 128),
    "truncation_side": st.just("right"),
    "add_special_tokens": st.booleans(),
    "use_activation": st.booleans(),
    "priority": st.integers(-9, 9),
    "cache_salt": st.text(alphabet="abc", min_size=1, max_size=3),
    "user": SCALARS,
}
ENCODING = {
    "encoding_format": st.sampled_from(["float", "base64", "bytes", "bytes_only"]),
    "embed_dtype": st.sampled_from(["float32", "float16", "bfloat16", "fp8_e4m3", "fp8_e5m2"]),
    "endianness": st.sampled_from(["native", "big", "little"]),
    "messages": st.lists(MESSAGE, max_size=2) | st.lists(st.lists(MESSAGE, max_size=2), max_size=2),
}
LIMITS = {"max_tokens_per_query": st.integers(0, 20), "max_tokens_per_doc": st.integers(0, 20)}
Fields = dict[str, st.SearchStrategy[Any]]
ROUTES: list[tuple[str, Fields, Fields]] = [
    ("/v1/embeddings", {"input": INPUT}, {**COMMON, **ENCODING, "dimensions": st.integers(0, 64)}),
    (
        "/pooling",
        {"input": INPUT},
        {**COMMON, **ENCODING, "task": st.sampled_from(["embed", "token_embed", "classify"]), "data": JSON},
    ),
    *[
        ("/score", {first: DOCUMENT, second: DOCUMENT | DOCUMENTS}, {**COMMON, **LIMITS, "items": DOCUMENT})
        for first, second in (("queries", "documents"), ("data_1", "data_2"), ("text_1", "text_2"))
    ],
    (
        "/rerank",
        {"query": DOCUMENT, "documents": DOCUMENTS},
        {**COMMON, **LIMITS, "top_n": st.integers(0, 5), "return_documents": st.booleans()},
    ),
    (
        "/v2/embed",
        {"texts": TEXTS_},
        {
            "inputs": st.lists(st.fixed_dictionaries({"content": st.lists(PART, max_size=2)}), max_size=2),
            "embedding_types": st.lists(st.sampled_from(["float", "int8", "uint8", "binary", "ubinary", "base64"]), max_size=3),
            "truncate": st.sampled_from(["NONE", "START", "END"]),
            "output_dimension": st.integers(0, 64),
            "max_tokens": st.integers(1, 200),
        },
    ),
]
"""Path, fields that must be there, and others: right ones, of which `bodies` makes some wrong."""


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A route, and fields of its own of which some hold what they should not."""
    path, needed, others = draw(st.sampled_from(ROUTES))
    chosen = draw(st.lists(st.sampled_from(sorted(others)), max_size=3, unique=True))
    body = {name: draw({**needed, **others}[name]) for name in (*needed, *chosen)}
    for name in draw(st.lists(st.sampled_from(sorted(body)), max_size=1)):
        body[name] = draw(JSON)
    return path, body


def status_of(server: OctavoServer, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    try:
        data = json.dumps(body).encode()
        request = urllib.request.Request(server.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.parametrize("which", ["embedder", "ranker"])
def test_no_body_is_the_servers_fault(request: pytest.FixtureRequest, which: str) -> None:
    server: OctavoServer = request.getfixturevalue(which)
    statuses: dict[int, int] = {}

    @settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(case=bodies())
    def check(case: tuple[str, dict[str, Any]]) -> None:
        status, answer = status_of(server, *case)
        statuses[status] = statuses.get(status, 0) + 1
        assert status in (200, 400, 501), (status, answer, case)
        if status == 400:
            assert answer["error"]["message"]
            assert answer["error"]["param"] is not None or "JSON" in answer["error"]["message"], (answer, case)
        if status == 501:
            assert which == "ranker"

    check()
    assert min(statuses[200], statuses[400]) > 30, statuses
    assert not any(gauges(server).values())
    assert "Traceback" not in server.log_text()
