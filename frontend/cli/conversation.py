"""What has been said in a chat, and how answers are asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from octavo.errors import ConfigError

SETTINGS: dict[str, type] = {
    "temperature": float, "top_p": float, "top_k": int, "min_p": float, "max_tokens": int, "seed": int,
    "presence_penalty": float, "frequency_penalty": float, "repetition_penalty": float,
}  # fmt: skip
"""What `/set` sets, as requests name it; whether a value is allowed is for the server to say."""


@dataclass
class Conversation:
    """Messages after the system's, user and assistant in turns."""

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

    def take_back_question(self) -> str | None:
        """The last question, which is forgotten with its answer; None when nothing was asked."""
        while self.turns:
            turn = self.turns.pop()
            if turn["role"] == "user":
                return turn["content"]
        return None

    def save(self, path: Path, model: str, settings: dict[str, Any]) -> None:
        """Write it as a JSON document; requests can be made from it.

        Raises:
            ConfigError: the file cannot be written.
        """
        document = {"model": model, "messages": self.messages(), **settings}
        try:
            path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def set_one(settings: dict[str, Any], words: list[str]) -> None:
    """Carry out `/set NAME [VALUE]`; without VALUE the server's default holds again.

    Raises:
        ConfigError: no such setting, or no such value.
    """
    name = words[0].replace("-", "_")
    kind = SETTINGS.get(name)
    if kind is None:
        raise ConfigError(f"there is no setting {words[0]!r}; there are {', '.join(SETTINGS)}")
    if len(words) == 1:
        settings.pop(name, None)
        return
    try:
        (word,) = words[1:]
        settings[name] = kind(word)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{name} must be {wanted}, got {' '.join(words[1:])!r}") from None
