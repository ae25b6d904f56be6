"""`octavo chat` and `octavo complete` against a server that says what it is told to."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from fake_openai import FakeOpenAI

from octavo.frontend.cli import chat, complete, main
from octavo.frontend.cli.address import parse_address


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as server:
        yield server


def run_chat(fake: FakeOpenAI, lines: list[str], monkeypatch: pytest.MonkeyPatch, *flags: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(line + "\n" for line in lines)))
    return chat.main(["--url", fake.url + "/v1", *flags])


def test_quick_answer(fake: FakeOpenAI, capsys: pytest.CaptureFixture[str]) -> None:
    assert chat.main(["--url", fake.url + "/v1", "-q", "What is the capital of France?", "--temperature", "0"]) == 0
    assert capsys.readouterr().out == "Paris is the capital\n"
    body = fake.bodies[0]
    assert body["messages"] == [{"role": "user", "content": "What is the capital of France?"}]
    assert (body["model"], body["stream"], body["temperature"]) == ("fake", True, 0.0)


def test_conversation_remembers(fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_chat(fake, ["one", "two"], monkeypatch, "--system-prompt", "Be brief.") == 0
    assert [message["content"] for message in fake.bodies[1]["messages"]] == ["Be brief.", "one", "Paris is the capital", "two"]
    assert [message["role"] for message in fake.bodies[1]["messages"]] == ["system", "user", "assistant", "user"]


def test_commands(fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        "one",
        "/reset",
        "two",
        "/system Be kind.",
        "three",
        "/history",
        "/etc/hosts is a file",
        "/help",
        "",
        "/quit",
        "four",
    ]
    assert run_chat(fake, lines, monkeypatch) == 0
    sent = [[message["content"] for message in body["messages"]] for body in fake.bodies]
    assert sent[:3] == [["one"], ["two"], ["Be kind.", "three"]]
    assert sent[3][-1] == "/etc/hosts is a file", "a word with a slash is a command only if it is one"
    assert len(sent) == 4
    text = capsys.readouterr().out
    assert "user: three" in text
    assert "/reset" in text


def test_refused_message_is_forgotten(
    fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.fail_with = 400
    assert run_chat(fake, ["bad", "/history"], monkeypatch) == 0
    text = capsys.readouterr().out
    assert "the server answered 400: the fake refuses" in text
    assert "user: bad" not in text


def test_stream_that_breaks_is_an_error(fake: FakeOpenAI, capsys: pytest.CaptureFixture[str]) -> None:
    fake.break_after = 2
    assert main.main(["chat", "--url", fake.url + "/v1", "-q", "hi"]) == 1
    assert "octavo: error: broken" in capsys.readouterr().err


def test_markup_in_an_answer_is_text(fake: FakeOpenAI, capsys: pytest.CaptureFixture[str]) -> None:
    fake.words = ["[bold]", "[/nothing]", "\n", "[red] :smile:"]
    assert chat.main(["--url", fake.url + "/v1", "-q", "hi"]) == 0
    assert capsys.readouterr().out == "[bold][/nothing]\n[red] :smile:\n"


def test_api_key_from_flag_and_environment(fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_API_KEY", "from-environment")
    chat.main(["--url", fake.url + "/v1", "-q", "hi"])
    chat.main(["--url", fake.url + "/v1", "-q", "hi", "--api-key", "from-flag"])
    assert [headers["Authorization"] for headers in fake.headers] == ["Bearer from-environment", "Bearer from-flag"]


def test_ctrl_c_stops_the_answer_not_the_chat(fake: FakeOpenAI) -> None:
    fake.delay, fake.words = 0.05, ["word "] * 400
    command = [sys.executable, "-m", "octavo.frontend.cli.main", "chat", "--url", fake.url + "/v1"]
    environment = {**os.environ, "COLUMNS": "200"}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdin is not None
    process.stdin.write("go on\n")
    process.stdin.flush()
    wait_until(lambda: fake.active == 1)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: fake.active == 0)
    fake.delay, fake.words = 0.0, ["bye"]
    output, _ = process.communicate("again\n/quit\n", timeout=120)
    assert process.returncode == 0
    assert fake.aborted == 1
    assert "[stopped]" in output
    assert "bye" in output
    kept = fake.bodies[1]["messages"][1]
    assert kept["role"] == "assistant"
    assert kept["content"].startswith("word word ")


def wait_until(condition: Callable[[], bool], timeout: float = 120.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_complete_streams_to_stdout(fake: FakeOpenAI, capsys: pytest.CaptureFixture[str]) -> None:
    assert complete.main(["--url", fake.url + "/v1", "--max-tokens", "2", "The", "capital"]) == 0
    assert capsys.readouterr().out == "Paris is\n"
    assert fake.bodies[0]["prompt"] == "The capital"
    assert fake.bodies[0]["max_tokens"] == 2


def test_complete_reads_standard_input(fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("from a pipe"))
    assert complete.main(["--url", fake.url + "/v1"]) == 0
    assert fake.bodies[0]["prompt"] == "from a pipe"


def test_client_closes_its_connection(fake: FakeOpenAI) -> None:
    from octavo.frontend.cli.client import Client

    async def ask_and_leave() -> None:
        client = Client(parse_address(fake.url), None, None)
        stream = client.stream_completion("x", {})
        assert await anext(stream) == "Paris"
        await stream.aclose()
        await client.close()

    fake.delay, fake.words = 0.02, ["Paris"] * 500
    asyncio.run(ask_and_leave())
    wait_until(lambda: fake.active == 0)
    assert fake.aborted == 1


COMMAND = [sys.executable, "-m", "octavo.frontend.cli.main"]


def start(*words: str, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("words", [["complete", "x"], ["chat", "-q", "x"]])
def test_a_reader_that_leaves_ends_the_command_quietly(fake: FakeOpenAI, words: list[str]) -> None:
    """As in `octavo complete x | head -1`."""
    fake.delay, fake.words = 0.01, ["word\n"] * 2000
    process = start(*words, "--url", fake.url + "/v1")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"word\n"
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == b""
    wait_until(lambda: fake.active == 0)


def test_help_for_a_reader_that_has_left() -> None:
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run([*COMMAND, "complete", "--help"], stdout=write, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(write)
    assert process.stderr == b""


@pytest.mark.parametrize("words", [["complete", "x"], ["chat", "-q", "x"]])
def test_ctrl_c_exits_130(fake: FakeOpenAI, words: list[str]) -> None:
    fake.delay, fake.words = 0.01, ["word "] * 10_000
    process = start(*words, "--url", fake.url + "/v1")
    assert process.stdout is not None
    assert process.stdout.read(4) == b"word"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, b"")


def test_ctrl_c_at_the_prompt_leaves_with_130(fake: FakeOpenAI) -> None:
    process = start("chat", "--url", fake.url + "/v1", stdin=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert process.stdout is not None
    assert b"/help" in process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, b"")


@pytest.mark.parametrize(
    ("words", "sent", "message"),
    [
        (["complete"], b"caf\xe9", b"standard input is not UTF-8"),
        (["complete", b"caf\xe9"], b"", b"the prompt is not UTF-8"),
        (["chat"], b"caf\xe9\n", b"standard input is not UTF-8"),
        (["chat", "-q", b"caf\xe9"], b"", b"not UTF-8"),
        (["chat", "--system-prompt", b"caf\xe9"], b"hi\n", b"not UTF-8"),
    ],
)
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_what_is_not_utf8_is_refused_in_one_line(
    fake: FakeOpenAI, words: list[str], sent: bytes, message: bytes, locale: str
) -> None:
    process = start(*words, "--url", fake.url + "/v1", stdin=subprocess.PIPE, env={**os.environ, "LC_ALL": locale})
    _, errors = process.communicate(sent, timeout=60)
    assert process.returncode == 1
    assert errors.startswith(b"octavo: error: ")
    assert message in errors
    assert errors.count(b"\n") == 1
    assert not fake.bodies


def test_a_terminal_without_the_answers_characters(fake: FakeOpenAI) -> None:
    fake.words = ["é", "漢"]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    process = start("complete", "x", "--url", fake.url + "/v1", env=environment)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, b"\xe9?\n", b"")
