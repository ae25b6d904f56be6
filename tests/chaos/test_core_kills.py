"""The short form of `make chaos-kills`: a few kills, the same demands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from core_kills import kill_and_report


@pytest.mark.timeout(600)
@pytest.mark.parametrize("flags", [[], ["--spare-core", "--no-async-scheduling", "--max-num-seqs", "8"]])
def test_streams_do_not_notice_that_the_core_is_killed(tiny_model_dir: Path, flags: list[str]) -> None:
    report = kill_and_report(tiny_model_dir, kills=3, max_tokens=150, seed=1, longest_delay=4.0, flags=flags)
    print(report.text())
    assert report.wrong == []
    assert report.left_behind == []
    assert report.kills == 3
