"""The examples run, as a reader would run them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import OctavoServer

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, argument: str) -> list[str]:
    """Lines that an example prints."""
    command = [sys.executable, str(EXAMPLES / name), argument]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_offline_inference(tiny_model_dir: Path) -> None:
    text = "\n".join(run("offline_inference.py", str(tiny_model_dir)))
    assert text.startswith("'The capital of France is' -> ")
    assert "'def fibonacci(n):' -> " in text


def test_async_engine(tiny_model_dir: Path) -> None:
    lines = run("async_engine.py", str(tiny_model_dir))
    assert len(lines) == 3
    assert "The capital of Japan is" in lines[2]


def test_openai_client(tiny_server: OctavoServer) -> None:
    pytest.importorskip("openai")
    assert "".join(run("openai_client.py", tiny_server.url + "/v1")).strip()


def test_embeddings_client(serve: Callable[..., OctavoServer], tiny_bert: Callable[[int], Path]) -> None:
    pytest.importorskip("openai")
    first, *ranked = run("embeddings_client.py", serve(tiny_bert(0)).url + "/v1")
    assert first.startswith("4 vectors of 64 numbers, ")
    scores = [float(line.partition(" ")[0]) for line in ranked]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
