"""The executor for one device: start-up, order, failures, shutdown."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from pathlib import Path

import pytest
import torch
from fake_model import Driver, FakeModel, greedy_tokens, make_config, spec, step_of

from octavo.config import DeviceConfig, EngineArgs, EngineConfig
from octavo.errors import ConfigError
from octavo.executor.choice import make_executor
from octavo.executor.step import NewRequest, StepInput
from octavo.executor.uniproc import UniprocExecutor
from octavo.kernels import ops


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    fake = FakeModel()
    monkeypatch.setattr("octavo.executor.loader.load_model", lambda *_: fake)
    return fake


def started(**changes: object) -> UniprocExecutor:
    executor = UniprocExecutor(make_config(**changes))
    executor.start(lambda *_: None)
    return executor


def test_start_tells_its_phases_and_warms_up(model: FakeModel) -> None:
    phases: list[str] = []
    executor = UniprocExecutor(make_config())
    with pytest.raises(RuntimeError, match="not running"):
        executor.check_health()
    executor.start(lambda phase, _: phases.append(phase))
    assert list(dict.fromkeys(phases)) == ["device", "kv_cache", "warm_up"]
    assert executor.num_blocks == 256
    assert model.num_tokens == [3, 1, 3, 1], "a prefill and a decode step, greedy and random"
    executor.check_health()
    executor.shutdown()


def test_steps_run_in_order_on_one_thread(model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = started()
    threads: set[int] = set()
    forward = model.forward

    def slow(*args: object) -> torch.Tensor:
        threads.add(threading.get_ident())
        time.sleep(0.005)
        return forward(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "forward", slow)
    driver = Driver(None, executor.num_blocks)  # type: ignore[arg-type]
    driver.join("a", [1, 2, 3], spec())
    futures = [executor.submit(driver.make_step({"a": 8})) for _ in range(8)]
    outputs = [future.result() for future in futures]
    assert [token for output in outputs for token in output.token_ids] == greedy_tokens([1, 2, 3], 8)
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    executor.shutdown()


def test_a_failing_step_fails_its_own_future(model: FakeModel) -> None:
    executor = started()
    driver = Driver(None, executor.num_blocks)  # type: ignore[arg-type]
    driver.join("a", [1, 2, 3], spec())
    driver.take(executor.submit(driver.make_step({"a": 8})).result())
    model.fail_next = True
    failing = executor.submit(driver.make_step({"a": 1}))
    queued = executor.submit(driver.make_step({"a": 1}))
    with pytest.raises(RuntimeError, match="device lost"):
        failing.result()
    assert list(queued.result().errors) == [driver.rows["a"]]
    driver.forget_steps()
    executor.check_health()
    driver.preempt("a")
    driver.take(executor.submit(driver.make_step({"a": 8})).result())
    assert driver.outputs["a"] == greedy_tokens([1, 2, 3], 2)
    executor.shutdown()


def test_shutdown_frees_the_model_and_refuses_more(monkeypatch: pytest.MonkeyPatch) -> None:
    models: list[weakref.ref[FakeModel]] = []

    def load(*_: object) -> FakeModel:
        fake = FakeModel()
        models.append(weakref.ref(fake))
        return fake

    monkeypatch.setattr("octavo.executor.loader.load_model", load)
    executor = started()
    executor.shutdown()
    executor.shutdown()
    gc.collect()
    assert models[0]() is None
    with pytest.raises(RuntimeError):
        executor.check_health()
    with pytest.raises(RuntimeError):
        executor.submit(StepInput.empty(0))


def test_start_reports_what_does_not_fit(model: FakeModel) -> None:
    executor = UniprocExecutor(make_config(num_blocks=10))
    with pytest.raises(ConfigError, match="--max-model-len to 40"):
        executor.start(lambda *_: None)
    executor.shutdown()


def test_a_missing_gpu_is_said_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    base = make_config()
    executor = UniprocExecutor(EngineConfig(base.model, base.cache, base.scheduler, DeviceConfig("cuda", 1, "uni")))
    with pytest.raises(ConfigError, match="--device cpu"):
        executor.start(lambda *_: None)
    executor.shutdown()


@pytest.mark.parametrize(
    "changes", [{"max_model_len": 1}, {"block_size": 1}, {"max_num_batched_tokens": 16, "max_num_seqs": 1}]
)
def test_warm_up_keeps_within_small_limits(model: FakeModel, changes: dict[str, object]) -> None:
    started(**changes).shutdown()


def test_a_real_model_end_to_end(tiny_model_dir: Path) -> None:
    """Alone, in company and in chunks: the same greedy tokens from the real loader, kernels and cache."""
    config = EngineArgs(
        model=str(tiny_model_dir), dtype="float32", max_model_len=128, num_gpu_blocks_override=64, max_num_seqs=8, num_threads=1
    ).create_engine_config()
    executor = make_executor(config)
    executor.start(lambda *_: None)
    assert ops.current() in ("cpu", "reference")
    prompts = {"a": [5, 6, 7, 8, 9], "b": list(range(10, 50)), "c": [3]}
    blocks = {"a": [0, 1], "b": [2, 3, 4], "c": [5]}

    def run(names: list[str], chunk: int) -> dict[str, list[int]]:
        outputs: dict[str, list[int]] = {name: [] for name in names}
        computed = dict.fromkeys(names, 0)
        joined = [NewRequest(i, n, prompts[n], len(prompts[n]), 0, [blocks[n]], spec()) for i, n in enumerate(names)]
        for i in range(60):
            lagging = [n for n in names if len(outputs[n]) < 12]
            counts = {n: min(chunk, len(prompts[n]) + len(outputs[n]) - computed[n]) for n in lagging}
            sampled = executor.submit(step_of(i, {names.index(n): c for n, c in counts.items()}, joined)).result().tokens_of()
            joined = []
            for name, count in counts.items():
                computed[name] += count
                outputs[name] += sampled.get(names.index(name), [])
        executor.submit(step_of(99, {}, left=range(len(names)))).result()
        return outputs

    together = run(["a", "b", "c"], 1000)
    assert all(len(tokens) == 12 for tokens in together.values())
    assert run(["a", "b", "c"], 7) == together
    for name in prompts:
        assert run([name], 1000)[name] == together[name]
    executor.shutdown()
