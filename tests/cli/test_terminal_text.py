"""What a model or a server says cannot drive the user's terminal."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_openai import FakeOpenAI
from terminal import COMMAND, Terminal

from octavo.frontend.cli import models
from octavo.frontend.cli.terminal_text import printable, printable_line
from octavo.tools import bench_serve
from octavo.tools.client import RequestResult

CLIPBOARD = "\x1b]52;c;aGk=\x07"


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as server:
        yield server


def test_what_a_terminal_obeys_is_shown() -> None:
    obeyed = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
    for code in obeyed:
        assert (chr(code) in printable(f"a{chr(code)}b")) == (chr(code) in "\n\t"), hex(code)
        assert chr(code) not in printable_line(chr(code)), hex(code)
    assert printable("\x1b[2J\x9b\u202e") == "␛[2J<U+009B><U+202E>"
    text = "Grüße, 漢字, שלום 🙂 \u00a0\n\tcode"
    assert printable(text) == text


def test_a_chat_shows_escapes_of_answers_history_errors_and_names(fake: FakeOpenAI, tmp_path: Path) -> None:
    fake.model = f"[red]m:smile:{CLIPBOARD}"
    fake.words = ["one\x1b", "]52;c;aGk=\x07 ", "two\u202e"]
    with Terminal("chat", "--url", fake.url, env={"OCTAVO_CACHE_DIR": str(tmp_path)}, columns=120) as terminal:
        terminal.wait_for("[red]m:smile:␛]52;c;aGk=␇")
        terminal.wait_for("> ")
        terminal.type("hi\n")
        terminal.wait_for("one␛]52;c;aGk=␇ two<U+202E>")
        terminal.wait_for("> ")
        terminal.type("/history\n")
        terminal.wait_for("assistant: one␛]52;c;aGk=␇ two<U+202E>")
        fake.fail_with, fake.refusal = 400, f"no{CLIPBOARD}"
        terminal.type("more\n")
        terminal.wait_for("no␛]52;c;aGk=␇")
        terminal.type("/quit\n")
        assert terminal.wait_end() == 0
    assert "\x1b]52" not in terminal.output
    assert "\u202e" not in terminal.output


def test_a_completion_is_raw_in_a_pipe_alone(fake: FakeOpenAI) -> None:
    fake.words = ["\x1b", "[2J\r\n"]
    with Terminal("complete", "--url", fake.url, "hi") as terminal:
        assert terminal.wait_end() == 0
    assert terminal.output.startswith("␛[2J\r\n")
    command = [*COMMAND, "complete", "--url", fake.url, "hi"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    assert done.stdout == b"\x1b[2J\r\n\n"
    fake.fail_with, fake.refusal = 400, CLIPBOARD
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 1
    assert b"\x1b" not in done.stderr
    assert "␛]52".encode() in done.stderr


def test_names_in_a_table_keep_to_their_line() -> None:
    assert models._table(("A", "B"), [("x\x1b[2J\n", "y")]) == "A       B\nx␛[2J␊  y"


def test_a_refusal_that_the_bench_reports(capsys: pytest.CaptureFixture[str]) -> None:
    failed = RequestResult(prompt_len=1, error=f"400 {CLIPBOARD}")
    bench_serve._print_errors([failed], SimpleNamespace(failed=1))  # type: ignore[arg-type]
    assert capsys.readouterr().err == "1 requests failed; the first: 400 ␛]52;c;aGk=␇\n"
