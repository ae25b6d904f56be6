"""The example plugin: a document in chunks, offline and online, against the chunks embedded one by one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from dist_info import write_dist_info
from servers import OctavoServer
from transformers import AutoTokenizer

from octavo import LLM, TokensPrompt

EXAMPLE = Path(__file__).parents[2] / "examples" / "long_document_plugin"
TEXT = "The sea is wide and deep. A house stands by it, and nobody lives there. " * 6


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The example, installed."""
    entries = {"long_document": "long_document_plugin:register"}
    assert 'long_document = "long_document_plugin:register"' in (EXAMPLE / "pyproject.toml").read_text()
    write_dist_info(tmp_path, "long_document_plugin", {"octavo.io_processor_plugins": entries})
    for folder in (EXAMPLE, tmp_path):
        monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (EXAMPLE, tmp_path))))
    return {"PYTHONPATH": os.environ["PYTHONPATH"]}


def expected(model: Path, room: int, overlap: int) -> tuple[list[float], int]:
    """The weighted mean, from chunks that are made here and embedded by themselves; and their number."""
    ids = AutoTokenizer.from_pretrained(model)(TEXT, add_special_tokens=False)["input_ids"]
    special = AutoTokenizer.from_pretrained(model)("a")["input_ids"][:-1]
    chunks, start, room = [], 0, room - len(special)
    while True:
        chunks.append([*special, *ids[start : start + room]])
        if start + room >= len(ids):
            break
        start += room - overlap
    with LLM(str(model), runner="pooling", dtype="float32") as llm:
        rows = [
            one.outputs.embedding
            for one in llm.embed([TokensPrompt(prompt_token_ids=chunk) for chunk in chunks], use_tqdm=False)
        ]
    mean = sum(len(chunk) * np.array(row) for chunk, row in zip(chunks, rows, strict=True))
    return (mean / np.linalg.norm(mean)).tolist(), len(chunks)


def test_a_long_document(tiny_model_dir: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    wanted, number = expected(tiny_model_dir, 64, 16)
    assert number > 2
    file = tmp_path / "document.txt"
    file.write_text(TEXT)
    flags = ["--runner", "pooling", "--dtype", "float32", "--io-processor-plugin", "long_document"]
    with OctavoServer(tiny_model_dir, flags, env=environment) as server:
        lines = run("online.py", server.url, file)
        body = json.dumps({"data": {"text": TEXT, "chunk_tokens": 64, "overlap": 16}}).encode()
        request = urllib.request.Request(server.url + "/pooling", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            data = json.load(answer)["data"]
    np.testing.assert_allclose(data["embedding"], wanted, atol=1e-6)
    assert data["num_chunks"] == number
    assert lines[0].startswith(f"{number} chunks, {data['num_tokens']} tokens: [")
    assert "model;dur=" in lines[1]
    (offline,) = run("offline.py", str(tiny_model_dir), file)
    assert offline.startswith(f"{number} chunks, ")


def run(name: str, *arguments: object) -> list[str]:
    command = [sys.executable, str(EXAMPLE / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
