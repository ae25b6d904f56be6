"""A worker that gives its memory back, and what it may be asked by name."""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import msgspec
import pytest
from fake_model import step_of

from octavo.config import EngineArgs
from octavo.errors import ValidationError
from octavo.executor.choice import make_executor
from octavo.executor.step import NewRequest
from octavo.executor.uniproc import UniprocExecutor
from octavo.wire.sampling_spec import SamplingSpec


@pytest.fixture
def executor(tiny_model_dir: Path) -> UniprocExecutor:
    args = EngineArgs(model=str(tiny_model_dir), dtype="float32", num_gpu_blocks_override=64, num_threads=1, max_model_len=256)
    executor = make_executor(args.create_engine_config())
    assert isinstance(executor, UniprocExecutor)
    executor.start(lambda *_: None)
    return executor


def first_token(executor: UniprocExecutor, key: str) -> int:
    prompt = [5, 6, 7, 8]
    request = NewRequest(0, key, prompt, len(prompt), 0, [[0]], SamplingSpec(2, seed=0, temperature=0.0))
    output = executor.submit(step_of(0, {0: len(prompt)}, [request])).result()
    return output.token_ids[0]


@pytest.mark.parametrize("weights", [False, True])
def test_memory_goes_and_comes_back(executor: UniprocExecutor, weights: bool) -> None:
    before, blocks = first_token(executor, "a"), executor.num_blocks
    runner = executor._worker._runner
    assert runner is not None
    held = [weakref.ref(tensor) for cache in runner._kv_caches for tensor in cache]
    del runner
    executor.release(weights)
    assert not any(ref() is not None for ref in held), "somebody still holds the cache"
    with pytest.raises(RuntimeError, match="not running"):
        first_token(executor, "b")
    if weights:
        with pytest.raises(RuntimeError, match="no model"):
            executor.restore_kv_cache()
        executor.restore_weights()
    executor.restore_kv_cache()
    assert executor.num_blocks == blocks
    # What ran before is told to leave, though the batch is new.
    executor.submit(step_of(1, {}, left=[0])).result()
    assert first_token(executor, "c") == before
    executor.shutdown()


def test_calls_answer_plain_data(executor: UniprocExecutor) -> None:
    [facts] = executor.call_workers("describe", [], {})
    assert (facts["device"], facts["architecture"], facts["num_blocks"]) == ("cpu", "LlamaForCausalLM", 64)
    [memory] = executor.call_workers("memory", [], {})
    assert 0 < memory["resident_bytes"] <= memory["peak_bytes"]
    for answer in (facts, memory):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(answer)) == answer
    with pytest.raises(ValidationError, match="no method 'exec'; known are describe, memory"):
        executor.call_workers("exec", ["import os"], {})
    executor.shutdown()


def test_a_profile_becomes_a_trace(executor: UniprocExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="OCTAVO_PROFILER_DIR"):
        executor.call_workers("start_profile", [], {})
    monkeypatch.setenv("OCTAVO_PROFILER_DIR", str(tmp_path / "traces"))
    with pytest.raises(ValidationError, match="no profile is running"):
        executor.call_workers("stop_profile", [], {})
    executor.call_workers("start_profile", ["../../my run"], {})
    with pytest.raises(ValidationError, match="running already"):
        executor.call_workers("start_profile", [], {})
    first_token(executor, "a")
    [path] = executor.call_workers("stop_profile", [], {})
    assert Path(path).parent == tmp_path / "traces"
    assert Path(path).name.startswith("myrun-")
    assert json.loads(Path(path).read_text())["traceEvents"]
    executor.shutdown()
