"""Attack a server and print what it did.

python -m chaos                                       a server of its own
python -m chaos --base-url URL --pid PID --peer       any OpenAI-compatible server
python -m chaos --only 'generated/1:4711'             one input again
python -m chaos --compare a.json b.json               tables of runs, side by side
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import aiohttp
from chaos import corpus, generated
from chaos.attack import PROMPTS, Attack
from chaos.control import Control
from chaos.inputs import Input
from chaos.judge import Judge
from chaos.report import Report, side_by_side, tracebacks
from chaos.watch import Watch
from servers import OctavoServer

from octavo.sources.model_source import DEFAULT_MODEL, find_model

FLAGS = ("--trust-request-chat-template", "--kv-cache-memory-bytes", "256M")
HEADROOM = 6 * 2**30
"""Bytes that a server of its own may take beyond what it begins with."""
WARM_UP = 500
"""Generated inputs of another seed before the first look at memory."""
FIRSTS = 8
"""Of each family written by hand each so-manieth input comes before it, too: threads, caches and tables come with the first."""


def main() -> int:
    args = parse_args()
    if args.compare:
        print(side_by_side([Report.from_dict(json.loads(path.read_text())) for path in args.compare]))
        return 0
    # Ended from outside, the server it started ends, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    args.own = args.base_url is None
    with ExitStack() as stack:
        if args.own:
            server = stack.enter_context(
                OctavoServer(
                    args.server_model or find_model(DEFAULT_MODEL).path, [*FLAGS, *args.flags.split()], stop_timeout=120
                )
            )
            args.base_url, args.pid, args.log = server.url, server.process.pid, server.log_path
            print(f"pid {args.pid}, log {server.log_path}")
        report = asyncio.run(attack(args))
        if args.log:
            log = args.log.read_text(errors="replace")
            report.tracebacks = tracebacks(log)
            if args.keep_log:
                args.keep_log.write_text(log)
    print(report.table())
    if args.json:
        args.json.write_text(json.dumps(report.as_dict(), indent=1))
    wrong = report.wrong()
    print(f"\n{len(wrong)} faults" + "".join(f"\n- {line}" for line in wrong))
    return 1 if wrong else 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description="Attack an OpenAI-compatible server.")
    parser.add_argument("--base-url", help="server to attack, without /v1; none = one of its own")
    parser.add_argument("--pid", type=int, help="its process, whose main thread runs the event loop")
    parser.add_argument("--peer", action="store_true", help="hold it only against what every such server must do")
    parser.add_argument("--name", default="Octavo", help="its name in tables")
    parser.add_argument("--model", help="model name of the control stream's requests")
    parser.add_argument("--server-model", default="", help="what a server of its own serves; none = the default model")
    parser.add_argument("--flags", default="", help="further flags of a server of its own")
    parser.add_argument("--count", type=int, default=100_000, help="generated inputs")
    parser.add_argument("--warm-up", type=int, default=WARM_UP, help="generated inputs before memory is first read")
    parser.add_argument(
        "--prompts", type=int, help="prompts of 1,000 tokens before memory is first read; none = as the cache holds"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--concurrency", type=int, default=8, help="generated inputs at once")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds without an answer that count as hanging")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="time for all of it; none = as long as it takes")
    parser.add_argument("--control-tokens", type=int, default=64)
    parser.add_argument("--families", default="", help="only these, comma-separated; generated is one of them")
    parser.add_argument("--every", type=int, default=1, help="of each family written by hand only each so-manieth input")
    parser.add_argument("--only", default="", help="only inputs whose name begins so; shows what is sent and answered")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--log", type=Path, help="the server's log, in which tracebacks are counted")
    parser.add_argument("--keep-log", type=Path, help="copy the log here")
    parser.add_argument("--compare", type=Path, nargs="+", help="print these figures as one table")
    args = parser.parse_args()
    if args.base_url and not args.pid:
        parser.error("--base-url needs --pid")
    return args


async def attack(args: argparse.Namespace) -> Report:
    """Run all that the arguments choose."""
    report = Report(args.name)
    families = set(args.families.split(",")) if args.families else None

    def chosen(inputs: Iterator[Input]) -> Iterator[Input]:
        return (i for i in inputs if (families is None or i.family in families) and i.name.startswith(args.only))

    if args.only.startswith("generated/"):
        made: Iterator[Input] = iter([generated.make(*map(int, args.only.removeprefix("generated/").split(":")))])
    elif (families is None or "generated" in families) and not args.only:
        made = generated.inputs(args.seed, args.count)
    else:
        made = iter(())
    timeout = aiohttp.ClientTimeout(total=args.patience)
    async with Watch(args.base_url, args.pid) as watch, aiohttp.ClientSession(timeout=timeout) as session:
        if args.own:
            watch.fence(HEADROOM)
        run = Attack(
            watch,
            Judge(documented=not args.peer),
            report,
            concurrency=args.concurrency,
            patience=args.patience,
            say=say,
            show=bool(args.only),
            seconds=args.seconds,
        )
        control = Control(session, args.base_url, args.model, args.control_tokens)
        prompts = args.prompts if args.prompts is not None else await prompts_to_fill_cache(watch, session)
        firsts = corpus.sample({"slow": 0}, FIRSTS) if args.warm_up else iter(())
        first_inputs = chain(firsts, generated.inputs(args.seed + 1, args.warm_up))
        await run.warm_up(session, first_inputs, args.model, prompts)
        async with run.beside(control, session):
            await run.one_by_one(chosen(corpus.sample({}, args.every)))
            await run.many(made)
    return report


async def prompts_to_fill_cache(watch: Watch, session: aiohttp.ClientSession) -> int:
    """So many that each page of the KV cache has been written once: a page takes memory from then on."""
    tokens = await watch.cache_tokens(session)
    return PROMPTS if tokens is None else tokens // 1000 + 1


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
