"""`octavo chat`: a conversation in the terminal with a running server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from octavo.config import option
from octavo.errors import ConfigError, OctavoError
from octavo.flags import Parser, add_flags
from octavo.frontend.cli import utf8
from octavo.frontend.cli.connection import ConnectionOptions

if TYPE_CHECKING:
    from octavo.frontend.cli.client import Client

COMMANDS = """\
/reset          forget the conversation
/system TEXT    set the system prompt (without TEXT: remove it) and start over
/history        show the conversation
/help           show this
/quit           leave (or Ctrl-D)
Ctrl-C stops an answer and keeps what has come; where none is coming, it leaves."""


@dataclass
class ChatOptions(ConnectionOptions):
    """Options of `octavo chat`."""

    system_prompt: str | None = option(None, "First message of the conversation, in the system's role.")
    quick: str | None = option(None, "Send one message, print the answer and leave.", flag="-q")


@dataclass
class Conversation:
    """What has been said."""

    system: str | None = None
    turns: list[dict[str, str]] = field(default_factory=list)

    def messages(self) -> list[dict[str, str]]:
        """All messages, the system's first."""
        first = [{"role": "system", "content": self.system}] if self.system else []
        return first + self.turns

    def say(self, role: str, content: str) -> None:
        self.turns.append({"role": role, "content": content})

    def reset(self) -> None:
        self.turns.clear()


class Chat:
    """One terminal's conversation with one server.

    Answers run in an event loop of their own, one `run` each: Ctrl-C cancels that run, which closes the connection, and
    the server stops working on it.
    """

    def __init__(self, options: ChatOptions, runner: asyncio.Runner) -> None:
        from rich.console import Console

        class Terminal(Console):
            def on_broken_pipe(self) -> None:
                raise BrokenPipeError  # the command's front door ends quietly

        self.options = options
        self.conversation = Conversation(options.system_prompt)
        self._runner = runner
        self._console = Terminal(highlight=False, soft_wrap=True)
        self._client = runner.run(self._make_client())

    def close(self) -> None:
        self._runner.run(self._client.close())

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

    def loop(self) -> None:
        """Read lines and answer them until the user leaves."""
        model = self._runner.run(self._client.connect())
        self._console.print(f"[bold]{model}[/bold] at {self.options.url} - /help for commands")
        while (line := self._read()) is not None:
            try:
                if line.startswith("/"):
                    if not self.command(line):
                        return
                elif line:
                    self.answer(line)
            except OctavoError as error:
                self._console.print(f"error: {error}", style="red", markup=False)

    def command(self, line: str) -> bool:
        """Carry out a /command; False when it says to leave."""
        name, _, rest = line.partition(" ")
        if name in ("/quit", "/exit"):
            return False
        if name == "/reset":
            self.conversation.reset()
        elif name == "/system":
            self.conversation = Conversation(rest.strip() or None)
        elif name == "/history":
            for message in self.conversation.messages():
                self._console.print(f"{message['role']}: {message['content']}", markup=False)
        elif name == "/help":
            self._console.print(COMMANDS, markup=False)
        else:
            self._console.print(f"there is no command {name}; /help lists them", markup=False)
        return True

    def _read(self) -> str | None:
        """The next line, None at the end of input."""
        try:
            return utf8.checked(self._console.input("[bold green]>[/bold green] ").strip(), "standard input")
        except UnicodeDecodeError:
            raise ConfigError("standard input is not UTF-8 text") from None
        except KeyboardInterrupt:
            self._console.print()
            raise
        except EOFError:
            self._console.print()
            return None

    async def _make_client(self) -> Client:
        from octavo.frontend.cli.client import Client

        return Client(self.options.url, self.options.model_name, self.options.key())

    async def _print_answer(self, parts: list[str]) -> None:
        async for text in self._client.stream_chat(self.conversation.messages(), self.options.sampling()):
            parts.append(text)
            self._console.out(text, end="", highlight=False)


def parse(argv: Sequence[str]) -> ChatOptions:
    """The options a command line asks for."""
    parser = Parser(prog="octavo chat", usage="octavo chat [OPTIONS]", description="Chat with a running server.")
    add_flags(parser, ChatOptions, "chat options")
    return ChatOptions(**vars(parser.parse_args(list(argv))))


def main(argv: Sequence[str]) -> int:
    """Chat until the user leaves; returns the exit code."""
    options = parse(argv)
    for text in (options.quick, options.system_prompt):
        utf8.checked(text or "", "the command line")
    utf8.write_all()
    if sys.stdin.isatty():
        import readline  # noqa: F401  (gives input() line editing and history)
    with asyncio.Runner() as runner:
        chat = Chat(options, runner)
        try:
            if options.quick is not None:
                if not chat.answer(options.quick):
                    raise KeyboardInterrupt
            else:
                chat.loop()
        finally:
            chat.close()
    return 0
