"""`octavo bench latency`: how long one batch of equal requests takes offline."""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from octavo.config import EngineArgs
from octavo.config.flags import Parser, add_flags, add_foreign, split
from octavo.config.option import option
from octavo.errors import ConfigError
from octavo.params import SamplingParams
from octavo.tools.metrics import percentile

PERCENTILES = (10, 25, 50, 75, 90, 99)


@dataclass
class LatencyOptions:
    """The batch, how often it runs, and where the numbers go."""

    input_len: int = option(32, "Prompt tokens.")
    output_len: int = option(128, "Output tokens.")
    batch_size: int = option(8, "Requests in the batch.")
    n: int = option(1, "Sequences for each prompt.")
    num_iters_warmup: int = option(10, "Runs before the clock starts.")
    num_iters: int = option(30, "Runs measured.")
    disable_detokenize: bool = option(False, "Token ids only, no text.")
    output_json: str | None = option(None, "Write the numbers to this file.")

    def check(self) -> None:
        """Raise ConfigError naming the flag whose value cannot work."""
        for name in ("input_len", "output_len", "batch_size", "n", "num_iters"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")


def make_parser() -> Parser:
    """The parser of `octavo bench latency`."""
    parser = Parser(
        prog="octavo bench latency",
        usage="octavo bench latency [OPTIONS]",
        description="Measure how long one batch takes offline; without prefix caching unless it is asked for.",
    )
    add_flags(parser, LatencyOptions, "benchmark options")
    add_flags(parser, EngineArgs, "engine options")
    add_foreign(parser)
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; returns the exit code."""
    engine, options = split(make_parser().parse_args(list(argv)), EngineArgs, LatencyOptions)
    # The batch is the same in every run: with the cache on, only the first run would compute its prompts.
    engine.setdefault("enable_prefix_caching", False)
    bench(EngineArgs.from_kwargs(**engine), LatencyOptions(**options))
    return 0


def bench(engine_args: EngineArgs, options: LatencyOptions) -> dict[str, Any]:
    """Run the batch again and again, print the latencies, write the file; returns the numbers."""
    from octavo.frontend.llm import LLM

    options.check()
    params = SamplingParams(
        n=options.n,
        temperature=1.0,
        max_tokens=options.output_len,
        ignore_eos=True,
        detokenize=not options.disable_detokenize,
    )
    with LLM.from_engine_args(engine_args) as llm:
        vocabulary = llm.config.model.vocab_size
        rng = random.Random(engine_args.seed)  # noqa: S311
        prompts = [[rng.randrange(vocabulary) for _ in range(options.input_len)] for _ in range(options.batch_size)]

        def run() -> float:
            start = time.perf_counter()
            llm.generate(prompts, params, use_tqdm=False)
            return time.perf_counter() - start

        for _ in tqdm(range(options.num_iters_warmup), desc="Warm-up", disable=not sys.stderr.isatty()):
            run()
        latencies = [run() for _ in tqdm(range(options.num_iters), desc="Runs", disable=not sys.stderr.isatty())]
    numbers = measured(latencies)
    print(f"Avg latency: {numbers['avg_latency']:.6f} seconds")
    for p, value in numbers["percentiles"].items():
        print(f"{p}% percentile latency: {value:.6f} seconds")
    if options.output_json:
        Path(options.output_json).write_text(json.dumps(numbers, indent=4) + "\n")
    return numbers


def measured(latencies: Sequence[float]) -> dict[str, Any]:
    """Mean, single values and percentiles, in seconds."""
    return {
        "avg_latency": statistics.fmean(latencies),
        "latencies": list(latencies),
        "percentiles": {str(p): percentile(latencies, p) for p in PERCENTILES},
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
