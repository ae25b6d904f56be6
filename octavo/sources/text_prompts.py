"""What an embedding model wants before a text, by the text's purpose: `prompts` of config_sentence_transformers.json, or
`task_instructions` of config.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from octavo.checked import Fields, shown
from octavo.errors import ConfigError
from octavo.strict_json import read_object

_FILE = "config_sentence_transformers.json"


def read_text_prompts(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """The model's prompts by name; {} where it has none.

    Args:
        folder: of the model.
        config: its config.json.

    Raises:
        ConfigError: they are no texts by name; names the file.
    """
    path = folder / _FILE
    where, prompts = str(path), Fields(str(path), read_object(path)).mapping("prompts") if path.is_file() else None
    if not prompts:
        where = str(folder / "config.json")
        prompts = Fields(where, config).mapping("task_instructions") or {}
    for name, text in prompts.items():
        if not isinstance(text, str):
            raise ConfigError(f"{where}: prompts must be texts, got {shown(text)} for {shown(name)}")
    return dict(prompts)
