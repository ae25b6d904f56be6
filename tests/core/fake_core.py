"""A core process with the fake executor; run in place of `octavo.core.process`.

FAKE_CORE in the environment changes it: "fail" cannot start, "hang" never becomes ready, "exit" ends at once,
"slow" takes a while for each step, "stuck" never finishes one, "gradual" takes its time to start.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

sys.path.insert(0, os.path.dirname(__file__))

from fake_executor import FakeExecutor

from octavo.config import EngineConfig
from octavo.core import process
from octavo.errors import ConfigError

MODE = os.environ.get("FAKE_CORE", "")


class ModalExecutor(FakeExecutor):
    def start(self, progress: Callable[[str, float], None]) -> None:
        progress("weights", 0.0)
        if MODE == "fail":
            raise ConfigError("--made-up-flag is too small")
        if MODE == "hang":
            time.sleep(3600)
        if MODE == "gradual":
            time.sleep(0.5)
            progress("weights", 0.5)
        super().start(progress)


def make_executor(config: EngineConfig) -> FakeExecutor:
    return ModalExecutor(config, {"slow": 0.05, "stuck": 3600.0}.get(MODE, 0.0))


if __name__ == "__main__":
    sys.exit(3 if MODE == "exit" else process.main(make_executor))
