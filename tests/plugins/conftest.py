"""Plugins as packages that are installed: modules and a dist-info on the path, for this process and those it starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from dist_info import write_dist_info
from plugin_environment import PACKAGES, plugin_environment

OCTAVO = {
    "document": "document_plugin:register",
    "faulty": "faulty_plugin:register",
    "struct": "typed_plugin:struct",
    "generating": "typed_plugin:generating",
    "unavailable": "builtins:print",
    "broken": "no_such_module:register",
    "no_plugin": "typed_plugin:Sum",
}
VLLM = {
    "first": "vllm_first_plugin:register_first",
    "transition": "vllm_transition_plugin:register_transition",
    "latest": "vllm_latest_plugin:register_latest",
}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the dist-infos."""
    folder: Path = tmp_path_factory.mktemp("site")
    write_dist_info(folder, "plugins_for_octavo", {"octavo.io_processor_plugins": OCTAVO})
    write_dist_info(folder, "plugins_for_vllm", {"vllm.io_processor_plugins": VLLM})
    return folder


@pytest.fixture
def packages(site: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The packages, installed for this test; returns the environment that has them in other processes, too."""
    for folder in (PACKAGES, site):
        monkeypatch.syspath_prepend(str(folder))
    environment = plugin_environment(site)
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    return environment
