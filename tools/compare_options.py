"""Options of `compare_peers`: which servers, which work, how often."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from octavo.config.option import option
from octavo.errors import ConfigError
from octavo.sources.model_source import DEFAULT_MODEL
from octavo.tools.bench_serve_options import pair
from octavo.tools.plot import check_plot_path

OCTAVO = "octavo"
WARM_UP_OUTPUT_LEN = 16
_WORK = re.compile(r"(\d+)/(\d+)x(\d+)@(\d+)")


class Contender(NamedTuple):
    """A server to measure: its name in the tables, and the shell command that starts it, {port} left open."""

    name: str
    command: str


@dataclass(frozen=True)
class Work:
    """Requests of one shape: prompt and output tokens, how many in all, how many at once."""

    input_len: int
    output_len: int
    num_prompts: int
    concurrency: int

    def __str__(self) -> str:
        return f"{self.input_len}/{self.output_len}x{self.num_prompts}@{self.concurrency}"

    @property
    def num_output_tokens(self) -> int:
        return self.output_len * self.num_prompts


def parse_work(text: str) -> Work:
    """Read "256/128x8@1": 8 requests of 256 prompt and 128 output tokens, one at a time.

    Raises:
        ConfigError: it looks different, or one of the numbers is 0.
    """
    match = _WORK.fullmatch(text)
    if match is None or not all(map(int, match.groups())):
        raise ConfigError(f"--work must look like INPUT/OUTPUTxPROMPTS@CONCURRENCY, say 256/128x8@1, got {text!r}")
    return Work(*map(int, match.groups()))


@dataclass
class CompareOptions:
    """Who is compared, on what, and where the numbers go."""

    peer: list[str] = option(
        [], "Servers to compare with, NAME=COMMAND; {port} in the command becomes the port, {model} the model. May be repeated."
    )
    octavo: bool = option(True, "Measure Octavo, as the first of the servers; off = the first peer takes its place.")
    octavo_args: str = option("", "Further arguments of `octavo serve`, in one word: --octavo-args='--max-num-seqs 64'.")
    model: str = option(DEFAULT_MODEL, "Model to serve, also where the tokenizer of the prompts is found.")
    tokenizer: str | None = option(None, "Hub id, folder or file of the prompts' tokenizer; unset = the model's.")
    served_model_name: str | None = option(
        None, "Name that requests use, also Octavo's name for its model; unset = the first one each server lists."
    )
    work: list[str] = option(
        ["256/128x8@1", "256/128x32@16", "32/256x32@32", "1024/16x8@4"],
        "What to measure, INPUT/OUTPUTxPROMPTS@CONCURRENCY: prompt tokens, output tokens, requests, requests at once.",
    )
    rounds: int = option(3, "How often everything is measured; medians are reported.")
    keep: bool = option(
        False, "Start each server once and run its rounds one after the other: shorter where starting is slow, less fair."
    )
    num_warmups: int | None = option(
        None,
        f"Requests before the clock starts on each work, of at most {WARM_UP_OUTPUT_LEN} output tokens; "
        "unset = as many as it has at once.",
    )
    temperature: float = option(0.0, "Sent with each request.")
    seed: int = option(0, "Seed of the prompts, which differ from round to round.")
    ready_timeout: float = option(600.0, "Seconds that a server has from its start to its first token.")
    request_timeout: float = option(3600.0, "Seconds after which a request counts as failed.")
    log_dir: str | None = option(None, "Keep the servers' logs in this folder.")
    plot: str = option("compare.html", "Picture of the medians, .html or .png; empty = none.")
    json: str = option("compare.json", "File for every round's numbers; empty = none.")
    disable_tqdm: bool = option(False, "No progress bars.")

    def check(self) -> None:
        """Raise ConfigError naming the flag whose value cannot work."""
        if self.rounds < 1:
            raise ConfigError(f"--rounds must be at least 1, got {self.rounds}")
        if self.num_warmups is not None and self.num_warmups < 0:
            raise ConfigError(f"--num-warmups must be at least 0, got {self.num_warmups}")
        names = [contender.name for contender in self.contenders()]
        if not names:
            raise ConfigError("--no-octavo needs a --peer to measure")
        if len(set(names)) < len(names):
            raise ConfigError(f"--peer names must differ from each other and from {OCTAVO!r}, got {', '.join(names)}")
        if len(set(self.works())) < len(self.work):
            raise ConfigError(f"--work must not hold the same twice: its prompts would be cached; got {' '.join(self.work)}")
        if self.plot:
            check_plot_path(Path(self.plot))

    def contenders(self) -> list[Contender]:
        """The servers, in the order in which they are measured; the others are compared with the first.

        Raises:
            ConfigError: a --peer is no NAME=COMMAND.
        """
        peers = [pair("--peer", word) for word in self.peer]
        found = [Contender(name, command.replace("{model}", shlex.quote(self.model))) for name, command in peers]
        return [Contender(OCTAVO, self._octavo_command()), *found] if self.octavo else found

    def works(self) -> list[Work]:
        """What to measure.

        Raises:
            ConfigError: a --work cannot be read.
        """
        return [parse_work(text) for text in self.work]

    def facts(self) -> dict[str, Any]:
        """What the JSON result says about the comparison."""
        return {
            "model_id": self.model,
            "rounds": self.rounds,
            "keep": self.keep,
            "seed": self.seed,
            "commands": {contender.name: contender.command for contender in self.contenders()},
        }

    def _octavo_command(self) -> str:
        name = ["--served-model-name", self.served_model_name] if self.served_model_name else []
        words = [sys.executable, "-m", "octavo.frontend.cli.main", "serve", self.model, "--disable-access-log", *name]
        return f"exec {shlex.join(words)} {self.octavo_args} --port {{port}}"
