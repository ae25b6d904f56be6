"""`octavo run`: one command from nothing to an answer."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_openai import FakeOpenAI
from servers import free_port
from terminal import COMMAND, Terminal

from octavo.errors import ConfigError
from octavo.frontend.cli import own_server, run


@pytest.fixture
def marker() -> str:
    """A name for a model that the command lines of its processes hold."""
    return f"served-{secrets.token_hex(8)}"


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as server:
        yield server


def octavo_run(*words: str, text: str | None = None, key: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OCTAVO_NUM_THREADS": "1", **({"OCTAVO_API_KEY": key} if key else {})}
    source = {"input": text} if text is not None else {"stdin": subprocess.DEVNULL}
    return subprocess.run(
        [*COMMAND, "run", *words], env=environment, capture_output=True, text=True, timeout=120, check=False, **source
    )  # type: ignore[call-overload, no-any-return]


def processes_of(marker: str) -> list[str]:
    """Command lines of live processes that name `marker`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if marker in line and path.parent.name != str(os.getpid()):
            found.append(line)
    return found


def test_an_answer_from_nothing_on_a_terminal(tiny_model_dir: Path, marker: str) -> None:
    """One line that changes, then the answer and nothing else; no process stays."""
    flags = ["--served-model-name", marker, "--max-tokens", "4", "--seed", "1"]
    with Terminal("run", str(tiny_model_dir), "Hello", *flags) as terminal:
        terminal.wait_for("loading the weights")
        assert terminal.wait_end() == 0
    progress, _, answer = terminal.output.rpartition("\r\x1b[K")
    assert progress.count("\n") == 0, "one line"
    assert answer.strip()
    assert "INFO" not in terminal.output
    assert not processes_of(marker)


def test_an_answer_for_a_pipe(tiny_model_dir: Path) -> None:
    flags = ["--port", str(free_port()), "--max-tokens", "4", "--temperature", "0", "--max-model-len", "128"]
    done = octavo_run(str(tiny_model_dir), "Hello", "you", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    again = octavo_run(str(tiny_model_dir), *flags, text="Hello you\n", key="key-of-a-server")
    assert again.stdout == done.stdout != ""


def test_a_chat_from_nothing(tiny_model_dir: Path, tmp_path: Path, marker: str) -> None:
    environment = {"OCTAVO_CACHE_DIR": str(tmp_path)}
    flags = ["--served-model-name", marker, "--max-tokens", "3"]
    with Terminal("run", str(tiny_model_dir), *flags, env=environment) as terminal:
        terminal.wait_for("/help for commands")
        terminal.wait_for("> ")
        terminal.type("Hello\n")
        terminal.wait_for("the first after")
        terminal.type("/quit\n")
        assert terminal.wait_end() == 0
    assert not processes_of(marker)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_ends_with_a_command_that_is_killed(
    tiny_model_dir: Path, tmp_path: Path, marker: str, how: signal.Signals
) -> None:
    temporary = tmp_path / "t"
    temporary.mkdir()
    environment = {"OCTAVO_CACHE_DIR": str(tmp_path), "TMPDIR": str(temporary)}
    with Terminal("run", str(tiny_model_dir), "--served-model-name", marker, env=environment) as terminal:
        terminal.wait_for(f"{marker}\x1b[0m - /help for commands")
        assert processes_of(marker)
        assert list(temporary.glob("octavo-run-*"))
        terminal.process.send_signal(how)
        terminal.process.wait()
        deadline = time.monotonic() + 30
        while processes_of(marker) or list(temporary.glob("octavo-run-*")):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_ctrl_c_while_it_starts(tiny_model_dir: Path, marker: str) -> None:
    with Terminal("run", str(tiny_model_dir), "Hello", "--served-model-name", marker) as terminal:
        terminal.wait_for("starting")
        terminal.type("\x03")
        assert terminal.wait_end() == 130
    assert not processes_of(marker)


def test_a_start_that_fails_says_why_once(tiny_model_dir: Path) -> None:
    done = octavo_run(str(tiny_model_dir), "Hello", "--port", str(free_port()), "--max-model-len", "1000000")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("octavo: error: --max-model-len 1000000 is more than the model's own")
    assert done.stderr.count("\n") == 1


def test_a_server_that_has_the_model_is_used(fake: FakeOpenAI) -> None:
    port = fake.url.rpartition(":")[2]
    fake.model = "HuggingFaceTB/SmolLM2-135M-Instruct"
    for words in (["smollm2", "hi"], ["hi there"], ["--model", "HuggingFaceTB/SmolLM2-135M-Instruct", "hi"]):
        done = octavo_run(*words, "--port", port, "--temperature", "0")
        assert (done.returncode, done.stdout, done.stderr) == (0, "Paris is the capital\n", "")
    assert [body["messages"][0]["content"] for body in fake.bodies] == ["hi", "hi there", "hi"]
    assert fake.bodies[0]["temperature"] == 0


def test_a_server_with_another_model_is_not_asked(fake: FakeOpenAI, tiny_model_dir: Path) -> None:
    port = fake.url.rpartition(":")[2]
    done = octavo_run(str(tiny_model_dir), "hi", "--port", port, "--max-tokens", "2")
    assert done.returncode == 0
    assert not fake.bodies


@pytest.mark.parametrize(
    ("words", "model", "prompt"),
    [
        ([], None, None),
        (["smollm2"], "smollm2", None),
        (["Qwen3:0.6B", "what", "now"], "Qwen3:0.6B", "what now"),
        (["owner/name", "a b"], "owner/name", "a b"),
        (["What is this?"], None, "What is this?"),
        (["--model", "x", "word"], "x", "word"),
        ([os.path.dirname(__file__), "x"], os.path.dirname(__file__), "x"),
    ],
)
def test_which_word_is_the_model(words: list[str], model: str | None, prompt: str | None) -> None:
    task = run.parse(words)
    assert (task.model, task.prompt, task.engine) == (model, prompt, [])


@pytest.mark.parametrize(("word", "message"), [("smolm2", "did you mean smollm2?"), ("xyzzy", "short names are smollm2")])
def test_a_misspelled_model_is_no_prompt(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run.parse([word])


def test_a_temporary_folder_with_a_long_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    made = own_server._socket_folder()
    with made, socket.socket(socket.AF_UNIX) as sock:
        sock.bind(own_server._socket_in(made.name))
        assert os.stat(made.name).st_mode & 0o077 == 0
    assert not list(folder.iterdir())
    monkeypatch.setattr(own_server, "_SHORT_FOLDER", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="set TMPDIR to a folder of yours with a short path"):
        own_server._socket_folder()


def test_engine_options_go_to_the_engine() -> None:
    task = run.parse(["smollm2", "hi", "--max-model-len", "4k", "--no-enable-prefix-caching", "--seed", "3"])
    assert task.engine == ["--max-model-len=4k", "--no-enable-prefix-caching"]
    assert task.options.seed == 3


def test_help_is_quick_about_imports() -> None:
    code = (
        "import sys; from octavo.frontend.cli.main import main\ntry: main(['run', '--help'])\nexcept SystemExit: pass\n"
        "print([name for name in ('aiohttp', 'torch', 'transformers', 'rich', 'huggingface_hub') if name in sys.modules],"
        " file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "[]"
