"""`octavo bench step` times every part of real steps of a real engine, and leaves it as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from octavo.errors import ConfigError
from octavo.kernels import ops
from octavo.kernels.cpu.native import isa
from octavo.tools import bench_step
from octavo.tools.bench_step import StepOptions
from octavo.tools.step_clock import ForwardClock, StepClock
from octavo.tools.step_report import REST, StepTimes, SweepPoint, medians, step_times, sweep_table

ENGINE = ["--dtype", "float32", "--num-threads", "1", "--max-num-seqs", "8", "--kv-cache-memory-bytes", "16M"]


def run(model: Path, folder: Path, *flags: str) -> dict[str, object]:
    path = folder / "numbers.json"
    words = ["--model", str(model), *ENGINE, "--context-len", "20", "--num-steps", "3", "--json", str(path), *flags]
    assert bench_step.main(words) == 0
    return dict(json.loads(path.read_text()))


def test_parts_of_a_step(tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ops.use(device="cpu")
    linear = vars(ops._set)["linear"]
    # A budget below the prompt's length: its prefill takes two steps.
    document = run(tiny_model_dir, tmp_path, "--batch-sizes", "1,3", "--num-prefills", "1", "--max-num-batched-tokens", "16")
    assert vars(ops._set)["linear"] is linear, "the kernels are as they were"
    profiles = document["profiles"]
    assert isinstance(profiles, list)
    assert [(p["name"], p["num_tokens"], p["num_steps"]) for p in profiles] == [
        ("prefill of 20 tokens", 20, 1),
        ("decode, batch 1, context 20", 1, 3),
        ("decode, batch 3, context 20", 3, 3),
    ]
    for profile in profiles:
        times = profile["times"]
        assert all(seconds > 0 for seconds in times["parts"].values()), times
        assert {"norm", "qkv", "rope", "attention", "out", "gate_up", "down", "head", "other"} <= set(times["ops"])
        assert all(seconds < times["parts"]["forward"] for seconds in times["ops"].values())
    # float32; 2 layers, hidden 64, 4 heads and 2 KV heads of 16, MLP 128, vocabulary 576
    sizes = {"qkv": 2 * 128 * 64, "out": 2 * 64 * 64, "gate_up": 2 * 256 * 64, "down": 2 * 64 * 128, "head": 576 * 64}
    assert profiles[0]["read_bytes"] == {name: 4 * size for name, size in sizes.items()}
    assert profiles[0]["operations"] == {name: 2 * size * (1 if name == "head" else 20) for name, size in sizes.items()}
    # Keys and values of 2 layers for 3 sequences, in the midst of 3 steps
    assert profiles[2]["read_bytes"]["attention"] == 3 * 21 * 2 * 2 * 2 * 16 * 4
    if ops.current() == "cpu":
        assert profiles[0]["machine"]["isa"] == isa()
        assert min(profiles[0]["machine"]["reads"], profiles[0]["machine"]["multiplies"]) > 1e8
    text = capsys.readouterr().out
    for name in (
        "schedule",
        "prepare",
        "forward",
        "  qkv",
        "sample",
        "output",
        "IPC",
        "frontend",
        "GB/s",
        "of reading",
        "of multiplying",
    ):
        assert name in text


def test_sweep(tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "sweep.html"
    document = run(tiny_model_dir, tmp_path, "--sweep", "--batch-sizes", "1,2,5", "--plot", str(picture))
    points = document["sweep"]
    assert isinstance(points, list)
    assert [point["batch_size"] for point in points] == [1, 2, 5]
    assert all(point["tokens_per_second"] == pytest.approx(point["batch_size"] / point["seconds"]) for point in points)
    assert picture.read_text().count("<svg") == 2
    assert "tokens/s" in capsys.readouterr().out


def test_cliffs_are_marked() -> None:
    table = sweep_table([SweepPoint(1, 0.01), SweepPoint(2, 0.01), SweepPoint(3, 0.02), SweepPoint(4, 0.02)])
    assert [line.endswith("cliff") for line in table.splitlines()[2:]] == [False, False, True, False]


def test_parts_add_up() -> None:
    clock = {"schedule": 1.0, "layers": 10.0, "head": 4.0, "head and sample": 5.0}
    times = step_times(20.0, clock, {"qkv": 6.0, "head": 4.0})
    assert (times.parts["forward"], times.parts["sample"], times.parts[REST]) == (14.0, 1.0, 4.0)
    assert times.ops == {"qkv": 6.0, "head": 4.0, "other": 4.0}
    assert sum(times.parts.values()) == times.total
    faster = StepTimes(10.0, times.parts, {"qkv": 2.0})
    assert medians([times, faster, faster]).ops["qkv"] == 2.0
    assert medians([times, faster, faster]).total == 10.0


def test_a_forward_pass_that_times_itself() -> None:
    class Native:
        profiled: bool | None = None

        def profile(self, enable: bool) -> None:
            self.profiled = enable

        def timings(self) -> dict[str, float]:
            return {"qkv": 1.5}

    ops.use(device="cpu")
    native = Native()
    clock = ForwardClock(SimpleNamespace(decoder=native))
    assert native.profiled is True
    ops.sample(torch.zeros(1, 4), None, torch.zeros(1, dtype=torch.int64), torch.zeros(1))
    ops.silu_and_mul(torch.zeros(1, 4))
    times = clock.take()
    assert times["qkv"] == 1.5
    assert set(times) == {"qkv", "activation"}, "what it leaves to the kernel set counts too"
    clock.close()
    assert native.profiled is False


def test_wrapping_is_undone() -> None:
    class Adder:
        def add(self, a: int, b: int) -> int:
            return a + b

    adder, clock = Adder(), StepClock()
    clock.wrap(adder, "add", lambda a, b: f"{a}+{b}")
    assert adder.add(1, 2) == 3
    assert list(clock.take()) == ["1+2"]
    clock.restore()
    assert vars(adder) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (StepOptions(context_len=0), "--context-len"),
        (StepOptions(num_steps=0), "--num-steps"),
        (StepOptions(batch_sizes="4,0"), "--batch-sizes"),
        (StepOptions(batch_sizes="x"), "--batch-sizes"),
        (StepOptions(plot="x.html"), "--plot needs --sweep"),
        (StepOptions(plot="x.pdf", sweep=True), ".html or .png"),
    ],
)
def test_impossible_options(options: StepOptions, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        options.check()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max-model-len", "24"], "--max-model-len is 24"),
        (["--batch-sizes", "9"], "--max-num-seqs is 8"),
        (["--batch-sizes", "8", "--num-gpu-blocks-override", "9"], "raise --kv-cache-memory-bytes"),
    ],
)
def test_no_room(tiny_model_dir: Path, tmp_path: Path, flags: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tiny_model_dir, tmp_path, *flags)


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys; from octavo.frontend.cli.main import main\n"
        "try: main(['bench', 'step', '--help'])\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert "--context-len" in done.stdout
    assert done.stderr.strip() == "False"
