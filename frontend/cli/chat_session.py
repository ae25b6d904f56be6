"""A conversation in the terminal: asks for messages, prints answers while they come, knows a few /commands."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from octavo.errors import ConfigError, OctavoError
from octavo.frontend.cli.client import Client
from octavo.frontend.cli.conversation import SETTINGS, Conversation, set_one
from octavo.frontend.cli.message_reader import MessageReader, set_up_line_editing
from octavo.frontend.cli.terminal_text import printable, printable_line
from octavo.frontend.cli.word_wrap import WordWrap
from octavo.suggestions import did_you_mean

HELP = f"""\
/reset             forget the conversation
/retry             ask the last question once more
/system [TEXT]     set the system prompt (without TEXT: remove it) and start over
/set [NAME VALUE]  set {", ".join(SETTINGS)}; without VALUE back to the default, without NAME show
/save FILE         write the conversation to a JSON file
/history           show the conversation
/help              show this
/quit              leave (or Ctrl-D)
More than one line: paste it, end a line with \\, or put it between two \"\"\".
Ctrl-C stops an answer and keeps what has come; where none is coming, it leaves."""


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # the command's front door ends quietly


class Chat:
    """One terminal's conversation with one server.

    Answers run in the runner's event loop, one `run` each: Ctrl-C cancels that run, which closes the connection, and
    the server stops working on it.

    Args:
        client: talks to the server; the caller closes it.
        runner: where the client was made.
        system: first message of the conversation, in the system's role.
        settings: sampling options, as requests name them.
    """

    def __init__(self, client: Client, runner: asyncio.Runner, system: str | None, settings: dict[str, Any]) -> None:
        self.conversation = Conversation(system)
        self._client = client
        self._runner = runner
        self._settings = dict(settings)
        self._saved: set[Path] = set()
        self._doubted = ""
        self._console = _Terminal(highlight=False, soft_wrap=True)
        self._commands: dict[str, Callable[[str], None]] = {
            "/reset": lambda _: self.conversation.reset(),
            "/retry": self._retry,
            "/system": self._set_system,
            "/set": self._set,
            "/save": self._save,
            "/history": self._show_history,
            "/help": lambda _: self._console.print(HELP, markup=False),
        }

    def answer(self, text: str) -> bool:
        """Send a message and print the answer while it comes; Ctrl-C stops it.

        Returns:
            Whether the answer came to its end.

        Raises:
            OctavoError: the server refused or is gone; the message is forgotten.
        """
        ended = True
        self.conversation.say("user", text)
        parts: list[str] = []
        try:
            self._runner.run(self._print_answer(parts))
        except KeyboardInterrupt:
            ended = False
            self._console.print(" [dim]\\[stopped][/dim]", end="")
        except OctavoError:
            self.conversation.turns.pop()
            raise
        self._console.print()
        self.conversation.say("assistant", "".join(parts))
        return ended

    def loop(self, where: str = "") -> None:
        """Read messages and answer them until the user leaves.

        Args:
            where: the server, for the greeting.
        """
        model = escape(printable_line(self._runner.run(self._client.connect())))
        at = where and f" at {escape(where)}"
        self._console.print(f"[bold]{model}[/bold]{at} - /help for commands", emoji=False)
        interactive = self._console.is_terminal
        reader = MessageReader(_read_line)
        while (message := self._read(reader)) is not None:
            try:
                if not self._is_command(message):
                    if message and not self._is_doubtful(message):
                        self.answer(message)
                        self._show_pace(interactive)
                elif not self.command(message):
                    return
            except OctavoError as error:
                self._console.print(f"error: {printable(str(error))}", style="red", markup=False)

    def command(self, line: str) -> bool:
        """Carry out a /command; False when it says to leave.

        Raises:
            OctavoError: it cannot be done.
        """
        name, _, rest = line.partition(" ")
        if name in ("/quit", "/exit"):
            return False
        self._commands[name](rest.strip())
        return True

    def _is_command(self, message: str) -> bool:
        """A word that begins with a slash may as well begin a message."""
        name = message.partition(" ")[0]
        return "\n" not in message and (name in self._commands or name in ("/quit", "/exit"))

    def _is_doubtful(self, message: str) -> bool:
        """Whether it looks like a misspelled command, which is said once; sent again it is a message."""
        meant = did_you_mean(message, [*self._commands, "/quit", "/exit"]) if message.startswith("/") else ""
        if not meant or message == self._doubted:
            return False
        self._doubted = message
        self._console.print(
            f"there is no command {printable(message)}{meant}; once more sends it as a message", style="dim", markup=False
        )
        return True

    def _read(self, reader: MessageReader) -> str | None:
        try:
            message = reader.read()
        except KeyboardInterrupt:
            self._console.print()
            raise
        if message is None:
            self._console.print()
        return message

    def _retry(self, _: str) -> None:
        before = list(self.conversation.turns)
        question = self.conversation.take_back_question()
        if question is None:
            raise ConfigError("nothing has been asked yet")
        try:
            self.answer(question)
        except OctavoError:
            self.conversation.turns[:] = before
            raise
        self._show_pace(self._console.is_terminal)

    def _set_system(self, text: str) -> None:
        self.conversation = Conversation(text or None)

    def _set(self, text: str) -> None:
        if text:
            set_one(self._settings, text.split())
        shown = ", ".join(f"{name} {value}" for name, value in self._settings.items())
        self._console.print(shown or "all as the server has it", style="dim", markup=False)

    def _save(self, text: str) -> None:
        if not text:
            raise ConfigError("/save needs the name of a file")
        path = Path(text).expanduser()
        if path.exists() and path not in self._saved:
            raise ConfigError(f"{path} exists; name another file")
        self.conversation.save(path, self._client.model or "", self._settings)
        self._saved.add(path)
        self._console.print(f"saved to {path}", style="dim", markup=False)

    def _show_history(self, _: str) -> None:
        for message in self.conversation.messages():
            self._console.print(f"{message['role']}: {printable(message['content'])}", markup=False, emoji=False)

    def _show_pace(self, interactive: bool) -> None:
        pace = self._client.pace
        if not interactive or not pace.tokens:
            return
        rate = f", {pace.rate:.1f} tokens/s" if pace.rate else ""
        plural = "" if pace.tokens == 1 else "s"
        ended = ", ended by the limit of tokens" if pace.finish_reason == "length" else ""
        self._console.print(f"{pace.tokens} token{plural}{rate}, the first after {pace.first_token:.2f} s{ended}", style="dim")

    async def _print_answer(self, parts: list[str]) -> None:
        wrap = WordWrap(self._console.width) if self._console.is_terminal else None
        try:
            async for text in self._client.stream_chat(self.conversation.messages(), self._settings):
                parts.append(text)
                shown = printable(text)
                self._out(wrap.feed(shown) if wrap else shown)
        finally:
            self._out(wrap.close() if wrap else "")

    def _out(self, text: str) -> None:
        if text:
            self._console.out(text, end="", highlight=False)


def _read_line(prompt: str) -> str:
    if not sys.stdin.isatty():
        return input()
    green, plain = "\001\033[1;32m\002", "\001\033[0m\002"  # line editing must not count what is not seen
    return input(f"{green}{prompt}{plain}")


def chat_with(client: Client, runner: asyncio.Runner, system: str | None, settings: dict[str, Any], where: str = "") -> None:
    """Chat until the user leaves."""
    if sys.stdin.isatty():
        set_up_line_editing()
    Chat(client, runner, system, settings).loop(where)


def answer_once(client: Client, runner: asyncio.Runner, system: str | None, settings: dict[str, Any], text: str) -> None:
    """Print the answer to one message.

    Raises:
        KeyboardInterrupt: Ctrl-C stopped it.
        OctavoError: the server refused or is gone.
    """
    if not Chat(client, runner, system, settings).answer(text):
        raise KeyboardInterrupt
