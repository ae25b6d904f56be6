"""The environment in which another process has the tests' plugins installed."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGES = Path(__file__).parent / "packages"


def plugin_environment(site: Path) -> dict[str, str]:
    """PYTHONPATH with the packages and their metadata before what is there."""
    parts = [str(site), str(PACKAGES), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(part for part in parts if part)}
