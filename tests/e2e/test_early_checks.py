"""What cannot work is said before weights are loaded for it: by the real command, once, without a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from chaos import model_files
from servers import HANG_GUARD


def refused(model: Path, *flags: str) -> str:
    """The last line of `octavo serve MODEL FLAGS`, which ends with an error before weights are read."""
    command = [sys.executable, "-m", "octavo.frontend.cli.main", "serve", str(model), "--port", "0", "--device", "cpu", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_GUARD, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 1, output
    assert "Traceback" not in output
    assert "weights" not in output.replace("octavo.weights", "")
    return done.stderr.strip().splitlines()[-1]


def test_a_template_that_does_not_compile(tiny_model_dir: Path, tmp_path: Path) -> None:
    template = tmp_path / "broken.jinja"
    template.write_text("{% if messages %}")
    assert "--chat-template: The chat template does not parse" in refused(tiny_model_dir, "--chat-template", str(template))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architectures": ["MambaForCausalLM"], "vocab_size": -5}, "architecture 'MambaForCausalLM' is not supported"),
        ({"num_attention_heads": -2}, "num_attention_heads must be an integer from 1 to"),
    ],
)
def test_a_hostile_config(change: dict[str, object], words: str, tmp_path: Path) -> None:
    folder = model_files.write_folder(tmp_path / "model", json.dumps(model_files.CONFIG | change).encode())
    message = refused(folder)
    assert words in message
    assert str(folder / "config.json") in message
