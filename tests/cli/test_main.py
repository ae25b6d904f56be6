"""The command's front door: help, version, unknown commands, and what it does not import."""

from __future__ import annotations

import subprocess
import sys

import pytest

from octavo.frontend.cli import bench, main
from octavo.version import __version__


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, command in main.COMMANDS.items():
        assert f"  {name} " in text
        assert command.help in text


def test_no_command_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([]) == 2
    assert "usage: octavo" in capsys.readouterr().out


def test_unknown_command_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["srve"]) == 2
    assert "'srve'" in (text := capsys.readouterr().err)
    assert "(did you mean serve?)" in text
    assert "run, serve, chat, complete, models, plugins, bench" in text


@pytest.mark.parametrize(
    "command",
    [*main.COMMANDS, "bench serve", "bench throughput", "bench latency", "bench step", "bench perplexity"],
)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main.main([*command.split(), "--help"])
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    assert code == 0
    assert f"usage: octavo {command}" in capsys.readouterr().out


def test_unknown_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["troughput"]) == 2
    error = capsys.readouterr().err
    assert "(did you mean throughput?)" in error
    assert "serve, throughput, latency, step" in error


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_next_to_nothing(option: str) -> None:
    """Their start-up time is that of Python: no third-party package and no room but the command line's is loaded."""
    heavy = ("msgspec", "aiohttp", "torch", "transformers", "rich", "argparse", "octavo.config", "octavo.core")
    code = (
        "import sys; from octavo.frontend.cli.main import main; main([sys.argv[1]]);"
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0
    assert done.stderr.strip() == "[]"


def test_errors_are_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["complete", "--url", "http://127.0.0.1:1/v1", "hello"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("octavo: error: nothing listens at http://127.0.0.1:1;")
    assert error.count("\n") == 1
