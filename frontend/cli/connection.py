"""Options that `octavo chat` and `octavo complete` share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from octavo import envs
from octavo.config import option

SAMPLING = ("max_tokens", "temperature", "top_p", "seed")


@dataclass
class ConnectionOptions:
    """Which server to ask, and how it should sample."""

    url: str = option("http://localhost:8000/v1", "Base URL of the server's API.")
    model_name: str | None = option(None, "Model to ask; unset = the first one the server lists.")
    api_key: str | None = option(None, "Key to send; unset = the environment's OCTAVO_API_KEY.")
    max_tokens: int | None = option(None, "Longest answer in tokens; unset = the server's default.")
    temperature: float | None = option(None, "0 = always the likeliest token; unset = the server's default.")
    top_p: float | None = option(None, "Share of probability to sample from; unset = the server's default.")
    seed: int | None = option(None, "Makes an answer reproducible.")

    def sampling(self) -> dict[str, Any]:
        """The sampling options that were given, as request fields."""
        return {name: getattr(self, name) for name in SAMPLING if getattr(self, name) is not None}

    def key(self) -> str | None:
        """The key to send."""
        return self.api_key or envs.get("API_KEY")
