"""`octavo chat` in a terminal, as a person uses it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_openai import FakeOpenAI
from terminal import Terminal

PASTE, PASTED = "\x1b[200~", "\x1b[201~"


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as server:
        yield server


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"OCTAVO_CACHE_DIR": str(tmp_path / "cache")}


def chat(fake: FakeOpenAI, env: dict[str, str], *flags: str, columns: int = 80) -> Terminal:
    return Terminal("chat", "--url", fake.url, *flags, env=env, columns=columns)


def asked(fake: FakeOpenAI, index: int = -1) -> str:
    return str(fake.bodies[index]["messages"][-1]["content"])


def test_an_answer_and_how_fast_it_came(fake: FakeOpenAI, home: dict[str, str]) -> None:
    fake.delay = 0.01
    with chat(fake, home) as terminal:
        terminal.wait_for("/help for commands")
        terminal.wait_for("> ")
        terminal.type("hello\n")
        terminal.wait_for("Paris is the capital")
        line = terminal.wait_for(" s\x1b[0m")
        assert re.search(r"\x1b\[2m4 tokens, [\d.]+ tokens/s, the first after [\d.]+ s", line)
        terminal.type("/quit\n")
        assert terminal.wait_end() == 0
    assert fake.bodies[0]["stream_options"] == {"include_usage": True}


def test_a_paste_is_one_message(fake: FakeOpenAI, home: dict[str, str]) -> None:
    with chat(fake, home) as terminal:
        terminal.wait_for("> ")
        terminal.type(f"{PASTE}one\rtwo\r/reset\r{PASTED}\n")
        terminal.wait_for("capital")
        terminal.type("/quit\n")
        assert terminal.wait_end() == 0
    assert [asked(fake, i) for i in range(len(fake.bodies))] == ["one\ntwo\n/reset"]


def test_a_paste_is_one_message_in_a_terminal_that_does_not_mark_it(fake: FakeOpenAI, home: dict[str, str]) -> None:
    with chat(fake, home) as terminal:
        terminal.wait_for("> ")
        terminal.type("one\ntwo\nthree\n")
        terminal.wait_for("capital")
        terminal.type("/quit\n")
        assert terminal.wait_end() == 0
    assert [asked(fake, i) for i in range(len(fake.bodies))] == ["one\ntwo\nthree"]


def test_messages_of_more_lines(fake: FakeOpenAI, home: dict[str, str]) -> None:
    with chat(fake, home) as terminal:
        terminal.wait_for("> ")
        terminal.type('"""first\n')
        terminal.wait_for("... ")
        terminal.type('  second"""\n')
        terminal.wait_for("capital")
        terminal.wait_for("> ")
        terminal.type("third\\\n")
        terminal.wait_for("... ")
        terminal.type("fourth\n")
        terminal.wait_for("capital")
        terminal.type("/quit\n")
        assert terminal.wait_end() == 0
    assert [asked(fake, 0), asked(fake, 1)] == ["first\n  second", "third\nfourth"]


def test_history_is_kept_for_its_owner(fake: FakeOpenAI, home: dict[str, str]) -> None:
    with chat(fake, home) as terminal:
        terminal.wait_for("> ")
        terminal.type("remember me\n")
        terminal.wait_for("capital")
        terminal.type("/quit\n")
        assert terminal.wait_end() == 0
    history = Path(home["OCTAVO_CACHE_DIR"]) / "chat_history"
    assert history.stat().st_mode & 0o077 == 0
    with chat(fake, home) as terminal:
        terminal.wait_for("> ")
        terminal.type("\x1b[A\x1b[A\n")  # the line before /quit
        terminal.wait_for("capital")
        terminal.type("/quit\n")
        assert terminal.wait_end() == 0
    assert asked(fake) == "remember me"


def test_words_are_not_broken(fake: FakeOpenAI, home: dict[str, str]) -> None:
    fake.words = ["extra", "ordinary ", "circum", "stances\n", "```\n", "x = 'a line of code that is long'\n", "```"]
    with chat(fake, home, columns=20) as terminal:
        terminal.wait_for("> ")
        terminal.type("hello\n")
        text = terminal.wait_for("tokens")
        terminal.type("/quit\n")
        terminal.wait_end()
    assert "extraordinary\r\ncircumstances\r\n```\r\n" in text
    assert "x = 'a line of code that is long'\r\n" in text, "code keeps its lines"


def test_ctrl_c_keeps_the_partial_answer(fake: FakeOpenAI, home: dict[str, str]) -> None:
    fake.delay, fake.words = 0.05, ["word "] * 1000
    with chat(fake, home) as terminal:
        terminal.wait_for("> ")
        terminal.type("go on\n")
        terminal.wait_for("word word word")
        terminal.type("\x03")
        terminal.wait_for("[stopped]")
        terminal.wait_for("> ")
        fake.delay, fake.words = 0.0, ["bye"]
        terminal.type("again\n")
        terminal.wait_for("bye")
        terminal.wait_for("> ")
        assert terminal.interrupt_until_end() == 130
    assert fake.aborted == 1
    assert fake.bodies[1]["messages"][1]["content"].startswith("word word word")


def test_settings_retry_and_save(fake: FakeOpenAI, home: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    with chat(fake, home, "--seed", "1") as terminal:
        for line, answer in (
            ("/set temperature 0.5", "temperature 0.5"),
            ("/set nonsense 1", "there is no setting 'nonsense'"),
            ("/set top_k many", "top_k must be a whole number, got 'many'"),
            ("/retry", "nothing has been asked yet"),
            ("hello", "the first after"),
            ("/set seed", "temperature 0.5"),
            ("/retry", "the first after"),
            (f"/save {file}", "saved to"),
            ("/save", "needs the name of a file"),
            (f"/save {tmp_path}", "exists"),
        ):
            terminal.wait_for("> ")
            terminal.type(line + "\n")
            terminal.wait_for(answer)
        terminal.type("/quit\n")
        assert terminal.wait_end() == 0
    first, second = fake.bodies
    assert (first["temperature"], first["seed"]) == (0.5, 1)
    assert second["messages"] == first["messages"] == [{"role": "user", "content": "hello"}]
    assert "seed" not in second
    saved = json.loads(file.read_text())
    assert saved["model"] == "fake"
    assert saved["temperature"] == 0.5
    assert [turn["content"] for turn in saved["messages"]] == ["hello", "Paris is the capital"]


def test_a_retry_that_is_refused_loses_nothing(fake: FakeOpenAI, home: dict[str, str]) -> None:
    with chat(fake, home) as terminal:
        terminal.wait_for("> ")
        terminal.type("hello\n")
        terminal.wait_for("the first after")
        fake.fail_with = 400
        terminal.type("/retry\n")
        terminal.wait_for("the fake refuses")
        terminal.type("/history\n")
        terminal.wait_for("assistant: Paris is the capital")
        terminal.type("/quit\n")
        assert terminal.wait_end() == 0
