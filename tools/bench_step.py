"""`octavo bench step`: where the time of a step goes, from the scheduler to the server-sent event."""

from __future__ import annotations

import html
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from octavo.config import EngineArgs
from octavo.config.flags import Parser, add_flags, add_foreign, split
from octavo.config.option import option
from octavo.errors import ConfigError
from octavo.tools.bench_serve_options import numbers
from octavo.tools.measured import circumstances, facts_table
from octavo.tools.plot import check_plot_path, write_charts
from octavo.tools.step_report import (
    Machine,
    Profile,
    StepTimes,
    SweepPoint,
    medians,
    step_times,
    sweep_charts,
    sweep_table,
)

if TYPE_CHECKING:
    from octavo.tools.step_clock import ForwardClock, StepClock
    from octavo.tools.step_engine import StepEngine

SWEEP = "1,2,3,4,5,7,8,12,16,24,32,48,64"


@dataclass
class StepOptions:
    """Which steps are measured, how many, and where the numbers go."""

    batch_sizes: str | None = option(None, f"Sequences that decode together, comma-separated; unset = 1,16,64, or {SWEEP}.")
    context_len: int = option(256, "Tokens of each prompt: what a prefill computes, and where decoding begins.")
    num_steps: int = option(32, "Decode steps measured for each batch size.")
    num_prefills: int = option(5, "Prompts whose prefill is measured, each alone; 0 = none.")
    num_steps_warmup: int = option(3, "Decode steps before the clock starts.")
    temperature: float = option(0.0, "Of the requests; 0 = greedy.")
    sweep: bool = option(
        False, "Tokens a second for many batch sizes, with steps overlapping as in a server, instead of parts."
    )
    plot: str | None = option(None, "With --sweep: write its picture to this .html or .png file.")
    json: str | None = option(None, "Write the numbers to this file.")

    def check(self) -> None:
        """Raise ConfigError naming the flag whose value cannot work."""
        for name, least in (("context_len", 1), ("num_steps", 1), ("num_prefills", 0), ("num_steps_warmup", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(self, name)}")
        if min(self.sizes()) < 1:
            raise ConfigError(f"--batch-sizes must hold numbers of at least 1, got {self.batch_sizes}")
        if self.plot:
            if not self.sweep:
                raise ConfigError("--plot needs --sweep")
            check_plot_path(Path(self.plot))

    def sizes(self) -> list[int]:
        """The batch sizes."""
        return [int(size) for size in numbers("--batch-sizes", self.batch_sizes or (SWEEP if self.sweep else "1,16,64"))]

    def sequence_len(self) -> int:
        """Tokens that a sequence may have at the end of its measurement, generously."""
        return self.context_len + self.num_steps + self.num_steps_warmup + 8


def make_parser() -> Parser:
    """The parser of `octavo bench step`."""
    parser = Parser(
        prog="octavo bench step",
        usage="octavo bench step [OPTIONS]",
        description="Measure where the time of decode and prefill steps goes: core, executor, IPC and frontend in one process.",
    )
    add_flags(parser, StepOptions, "benchmark options")
    add_flags(parser, EngineArgs, "engine options")
    add_foreign(parser)
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; returns the exit code."""
    engine, step = split(make_parser().parse_args(list(argv)), EngineArgs, StepOptions)
    options = StepOptions(**step)
    options.check()
    engine.setdefault("max_num_seqs", max(256, *options.sizes()))
    bench(EngineArgs.from_kwargs(**engine), options)
    return 0


def bench(engine_args: EngineArgs, options: StepOptions) -> dict[str, Any]:
    """Run the steps, print the tables, write the files; returns the numbers."""
    from octavo.kernels import ops
    from octavo.tools.step_engine import StepEngine

    with StepEngine(engine_args) as engine:
        check_room(engine, options)
        config = engine.config
        facts = {"kernels": ops.current(), "num_threads": config.device.num_threads, "dtype": config.model.dtype}
        print(f"{engine.model_name}: {', '.join(f'{key} {value}' for key, value in facts.items())}")
        result = _sweep(engine, options) if options.sweep else _profiles(engine, options, _machine(config.model.dtype))
    document = {"model_id": engine.model_name, **facts, "context_len": options.context_len, **result}
    if options.json:
        Path(options.json).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return document


def check_room(engine: StepEngine, options: StepOptions) -> None:
    """Raises: ConfigError: the sequences do not fit the model or the cache."""
    length, batch = options.sequence_len(), max(options.sizes())
    if length > engine.core.max_model_len:
        raise ConfigError(f"--context-len and --num-steps need {length} tokens; --max-model-len is {engine.core.max_model_len}")
    if batch > engine.config.scheduler.max_num_seqs:
        raise ConfigError(f"--batch-sizes goes up to {batch}; --max-num-seqs is {engine.config.scheduler.max_num_seqs}")
    kv = engine.core.scheduler.kv
    needed = batch * kv.most_blocks(length, length)
    if needed > kv.num_blocks:
        raise ConfigError(
            f"{batch} sequences of {length} tokens need {needed} KV blocks, there are {kv.num_blocks}: "
            "raise --kv-cache-memory-bytes"
        )


def _machine(dtype: str) -> Machine | None:
    """What this machine can do, measured now; None where the kernels in use are not the native ones."""
    import torch

    from octavo.kernels import ops

    if ops.current() != "cpu":
        return None
    from octavo.kernels.cpu import machine, native

    found = Machine(native.isa(), machine.reading_rate(), machine.multiplying_rate(getattr(torch, dtype)))
    print(found)
    return found


def _profiles(engine: StepEngine, options: StepOptions, machine: Machine | None) -> dict[str, Any]:
    """A table for the prefill of one prompt and for decoding at each batch size."""
    from octavo.tools.step_clock import StepClock

    # One step at a time: what overlaps cannot be told apart.
    engine.core.max_in_flight = 1
    prompts = engine.random_prompts(max(*options.sizes(), options.num_prefills), options.context_len, engine.config.model.seed)
    clock = StepClock()
    forward = engine.watch(clock)
    measured = []
    try:
        if options.num_prefills:
            steps = [
                _prefill(engine, prompt, options, clock, forward) for prompt in _bar(prompts[: options.num_prefills], "Prefill")
            ]
            name = f"prefill of {options.context_len} tokens"
            measured.append(_profile(name, options.context_len, steps, Work.of(forward, options.context_len, 1), machine))
        for size in options.sizes():
            steps = _decode(engine, prompts[:size], options, clock, forward)
            name, work = f"decode, batch {size}, context {options.context_len}", Work.of(forward, size, size)
            work.read_bytes["attention"] = size * engine.context_bytes(options.context_len + options.num_steps // 2)
            measured.append(_profile(name, size, steps, work, machine))
    finally:
        forward.close()
        clock.restore()
    return {"profiles": [profile.as_dict() for profile in measured]}


@dataclass
class Work:
    """What a step must do at least, by operation: see `Profile`."""

    read_bytes: dict[str, int]
    operations: dict[str, int]

    @classmethod
    def of(cls, forward: ForwardClock, num_tokens: int, num_sampled: int) -> Work:
        """Of a step's products; the head multiplies only what is sampled from."""
        rows = {label: num_sampled if label == "head" else num_tokens for label in forward.weight_values}
        operations = {label: 2 * values * rows[label] for label, values in forward.weight_values.items()}
        return cls(dict(forward.weight_bytes), operations)


def _profile(name: str, num_tokens: int, steps: list[StepTimes], work: Work, machine: Machine | None) -> Profile:
    profile = Profile(name, num_tokens, len(steps), medians(steps), work.read_bytes, work.operations, machine)
    print(f"\n{profile.table()}")
    return profile


def _prefill(engine: StepEngine, prompt: list[int], options: StepOptions, clock: StepClock, forward: ForwardClock) -> StepTimes:
    """From a prompt to its first token; all its steps, if it takes several, as one."""
    engine.start([prompt], options.temperature)
    clock.take(), forward.take()
    total = 0.0
    while not engine.num_delivered:
        total += engine.step(clock)
    times = step_times(total, clock.take(), forward.take())
    engine.stop()
    return times


def _decode(
    engine: StepEngine, prompts: list[list[int]], options: StepOptions, clock: StepClock, forward: ForwardClock
) -> list[StepTimes]:
    """Steps in which every sequence decodes one token."""
    _reach_decoding(engine, prompts, options)
    clock.take(), forward.take()
    steps = []
    for _ in _bar(range(options.num_steps), f"Batch {len(prompts)}"):
        total = engine.step(clock)
        steps.append(step_times(total, clock.take(), forward.take()))
    engine.stop()
    return steps


def _sweep(engine: StepEngine, options: StepOptions) -> dict[str, Any]:
    """One table, and a picture if asked for, over all batch sizes."""
    import statistics

    prompts = engine.random_prompts(max(options.sizes()), options.context_len, engine.config.model.seed)
    points = []
    for size in _bar(options.sizes(), "Batch sizes"):
        _reach_decoding(engine, prompts[:size], options)
        points.append(SweepPoint(size, statistics.median(engine.step() for _ in range(options.num_steps))))
        engine.stop()
    table = sweep_table(points)
    print(f"\ndecode, context {options.context_len}, medians of {options.num_steps} steps\n{table}")
    if options.plot:
        work = f"decode, context {options.context_len}, medians of {options.num_steps} steps"
        facts = {"work": work, "seed": str(engine.config.model.seed), **circumstances()}
        numbers = f"<pre>{html.escape(table)}</pre>{facts_table(facts)}"
        write_charts(Path(options.plot), sweep_charts(points), engine.model_name, numbers)
        print(f"Plot written to {options.plot}")
    return {
        "sweep": [{"batch_size": p.batch_size, "seconds": p.seconds, "tokens_per_second": p.tokens_per_second} for p in points]
    }


def _reach_decoding(engine: StepEngine, prompts: list[list[int]], options: StepOptions) -> None:
    """Start the prompts and step until all of them decode, and for the warm-up steps."""
    engine.start(prompts, options.temperature)
    left = options.num_steps_warmup + 1
    while left:
        engine.step()
        left -= engine.num_delivered >= len(prompts) and engine.num_scheduled_tokens == len(prompts)


def _bar(items: Iterable[Any], title: str) -> Any:
    return tqdm(items, desc=title, leave=False, disable=not sys.stderr.isatty())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
