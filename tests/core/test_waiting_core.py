"""A core process that is started before anybody knows what it is to serve."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from core_configs import make_config

from octavo.core.client import CoreClient
from octavo.core.waiting_core import WaitingCore
from octavo.errors import ConfigError
from octavo.frontend.async_llm import AsyncLLM, EngineArgs

FAKE_CORE = (sys.executable, str(Path(__file__).parent / "fake_core.py"))


def test_it_serves_once_it_is_told_what() -> None:
    with WaitingCore(FAKE_CORE) as core:
        client = CoreClient(make_config())
        client.spawn(core)
    try:
        assert client.wait_ready(timeout=120).num_blocks == 64
    finally:
        client.close()
    with pytest.raises(RuntimeError, match="taken"):
        core.take()


def test_it_ends_quietly_when_nobody_wants_it(capfd: pytest.CaptureFixture[str]) -> None:
    core = WaitingCore()
    process = core._process
    assert process is not None
    core.close()
    core.close()
    assert process.returncode == 0
    assert capfd.readouterr().err == ""


def test_a_configuration_that_cannot_be_leaves_no_process(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model"):
        AsyncLLM.from_engine_args(EngineArgs(model=str(tmp_path)))
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not [pid for pid in children if b"octavo.core.process" in Path(f"/proc/{pid}/cmdline").read_bytes()]
