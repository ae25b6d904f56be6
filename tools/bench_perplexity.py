"""`octavo bench perplexity`: how well a model, in the form the engine runs it, predicts a text."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.config import EngineArgs
from octavo.config.flags import Parser, add_flags, add_foreign, split
from octavo.config.option import option
from octavo.errors import ConfigError
from octavo.params import SamplingParams
from octavo.tools.tokenization import BenchTokenizer


@dataclass
class PerplexityOptions:
    """Which text, and how it is cut."""

    text: str = option("", "File with the text; some ten thousand tokens give figures that can be compared.")
    window: int = option(1024, "Tokens seen at once; windows do not overlap, and the first token of each is not scored.")
    max_tokens: int | None = option(None, "Read at most so many tokens of the text.")
    output_json: str | None = option(None, "Write the numbers to this file.")
    disable_tqdm: bool = option(False, "No progress bar.")


def make_parser() -> Parser:
    """The parser of `octavo bench perplexity`."""
    parser = Parser(
        prog="octavo bench perplexity",
        usage="octavo bench perplexity --text FILE [OPTIONS]",
        description="Measure how well a model predicts a text.",
    )
    add_flags(parser, PerplexityOptions, "benchmark options")
    add_flags(parser, EngineArgs, "engine options")
    add_foreign(parser)
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; returns the exit code."""
    engine, options = split(make_parser().parse_args(list(argv)), EngineArgs, PerplexityOptions)
    bench(EngineArgs.from_kwargs(**engine), PerplexityOptions(**options))
    return 0


def bench(engine_args: EngineArgs, options: PerplexityOptions) -> dict[str, Any]:
    """Score the text, print its perplexity, write the file; returns the numbers.

    Raises:
        ConfigError: there is no such text, or it is too short.
    """
    from octavo.frontend.llm import LLM

    windows = cut(tokens_of(engine_args, options), options.window)
    with LLM.from_engine_args(engine_args) as llm:
        if options.window >= llm.config.model.max_model_len:
            raise ConfigError(f"--window must be below the model's length of {llm.config.model.max_model_len} tokens")
        started = time.perf_counter()
        logprobs = score(llm, windows, options)
        numbers = measured(logprobs, len(windows), time.perf_counter() - started)
    print(
        f"Perplexity: {numbers['perplexity']:.4f} ({numbers['logprob']:.5f} a token) over {numbers['num_tokens']} tokens in "
        f"{numbers['num_windows']} windows; {numbers['elapsed_time']:.1f} s, {numbers['tokens_per_second']:.0f} tokens/s"
    )
    if options.output_json:
        Path(options.output_json).write_text(json.dumps(numbers, indent=4) + "\n")
    return numbers


def tokens_of(engine_args: EngineArgs, options: PerplexityOptions) -> list[int]:
    """The text's tokens.

    Raises:
        ConfigError: there is no such file.
    """
    path = Path(options.text)
    if not path.is_file():
        raise ConfigError(f"--text: no file {options.text!r}")
    tokenizer = BenchTokenizer.load(engine_args.tokenizer or engine_args.model)
    return tokenizer.encode(path.read_text(encoding="utf-8"))[: options.max_tokens]


def cut(tokens: list[int], window: int) -> list[list[int]]:
    """Successive windows; the last is dropped if it has no token to score.

    Raises:
        ConfigError: nothing is left.
    """
    if window < 2:
        raise ConfigError(f"--window must be at least 2, got {window}")
    windows = [tokens[first : first + window] for first in range(0, len(tokens), window)]
    windows = [tokens for tokens in windows if len(tokens) > 1]
    if not windows:
        raise ConfigError("--text has fewer than two tokens")
    return windows


def score(llm: Any, windows: list[list[int]], options: PerplexityOptions) -> list[float]:
    """Log-probability of every token but the first of each window."""
    params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
    outputs = llm.generate(windows, params, use_tqdm=not options.disable_tqdm)
    return [
        scores[token].logprob
        for output in outputs
        for token, scores in zip(output.prompt_token_ids[1:], output.prompt_logprobs[1:], strict=True)
    ]


def measured(logprobs: list[float], num_windows: int, elapsed: float) -> dict[str, Any]:
    """The numbers of a run of `elapsed` seconds."""
    mean = math.fsum(logprobs) / len(logprobs)
    return {
        "perplexity": math.exp(-mean),
        "logprob": mean,
        "num_tokens": len(logprobs),
        "num_windows": num_windows,
        "elapsed_time": elapsed,
        "tokens_per_second": len(logprobs) / elapsed,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
