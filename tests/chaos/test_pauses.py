"""The short form of `make chaos-pauses`: a process that is stopped for a while is not lost."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from pauses import TARGETS, pause_and_report


@pytest.mark.timeout(600)
def test_streams_go_on_where_they_were_when_a_process_was_stopped(tiny_model_dir: Path) -> None:
    outcomes = pause_and_report(tiny_model_dir, [(target, 2.0) for target in TARGETS], max_tokens=600)
    assert [outcome.text() for outcome in outcomes if outcome.faults] == []
