"""Options of the commands that ask a server: which one, and how it should sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from octavo import envs
from octavo.config.option import option
from octavo.frontend.cli.address import Address, parse_address

SAMPLING = ("max_tokens", "temperature", "top_p", "seed")


@dataclass
class AskingOptions:
    """How an answer is asked for."""

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


@dataclass
class ConnectionOptions(AskingOptions):
    """Which server to ask, and how it should sample."""

    url: str = option(
        "localhost:8000", "Server: HOST:PORT, with or without http:// and /v1, or unix:PATH; without a port 8000 is meant."
    )
    port: int | None = option(None, "Port of a server on this machine: short for --url localhost:PORT.")
    model_name: str | None = option(None, "Model to ask; unset = the first one the server lists.")
    cacert: str | None = option(None, "File with the certificates to trust, for a server with one of its own making.")

    def address(self) -> Address:
        """The server. Raises: ConfigError: --url is no address, or --port no port."""
        return parse_address(self.url) if self.port is None else parse_address(f"localhost:{self.port}", "--port")
