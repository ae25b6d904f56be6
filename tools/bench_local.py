"""`make bench`: start a server, load it with more and more concurrent requests, stop it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from octavo.config.flags import Parser, add_flags
from octavo.config.option import option
from octavo.sources.model_source import DEFAULT_MODEL
from octavo.tools import bench_serve
from octavo.tools.server_process import free_port

READY_TIMEOUT = 600


@dataclass
class LocalOptions:
    """What to serve and how to load it."""

    model: str = option(DEFAULT_MODEL, "Model to serve.")
    sweep_concurrency: str = option("1,2,4,8,16", "Concurrent requests, one run for each.")
    num_prompts: int = option(32, "Requests of a run.")
    input_len: int = option(256, "Prompt tokens.")
    output_len: int = option(64, "Output tokens.")
    plot: str = option("bench.html", "Picture of latency against load.")


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; returns the exit code."""
    parser = Parser(prog="bench_local", description="Load a server of the default model and draw latency against load.")
    add_flags(parser, LocalOptions, "options")
    options = LocalOptions(**vars(parser.parse_args(list(argv))))
    port = free_port()
    words = ["serve", options.model, "--port", str(port), "--disable-access-log"]
    command = [sys.executable, "-m", "octavo.frontend.cli.main", *words]
    server = subprocess.Popen(command)
    try:
        return bench_serve.main(bench_words(options, port, words))
    finally:
        server.terminate()
        server.wait()


def bench_words(options: LocalOptions, port: int, server_words: Sequence[str]) -> list[str]:
    """The command line of `octavo bench serve`."""
    given = {
        "port": port,
        "model": options.model,
        "sweep-concurrency": options.sweep_concurrency,
        "num-prompts": options.num_prompts,
        "random-input-len": options.input_len,
        "random-output-len": options.output_len,
        "num-warmups": 2,
        "ready-check-timeout-sec": READY_TIMEOUT,
        "plot": options.plot,
        "metadata": f"server_flags={shlex.join(server_words)}",
    }
    return [f"--{name}={value}" for name, value in given.items()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
