"""The engine step by step, over a tiny model and over a scripted core."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_core import FakeCoreClient, make_engine

from octavo import EngineArgs, LLMEngine, RequestOutput, RequestOutputKind, SamplingParams
from octavo.errors import EngineDeadError, ValidationError
from octavo.frontend.tokenizer import Tokenizer
from octavo.metrics import Counter


@pytest.fixture(scope="module")
def engine(tiny_model_dir: Path) -> Iterator[LLMEngine]:
    args = EngineArgs(
        model=str(tiny_model_dir),
        dtype="float32",
        num_gpu_blocks_override=256,
        num_threads=1,
        max_num_seqs=4,
        max_model_len=1024,
        max_num_queued_reqs=1,
    )
    with LLMEngine.from_engine_args(args) as engine:
        yield engine


def greedy(max_tokens: int = 8, **fields: object) -> SamplingParams:
    return SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True, **fields)  # type: ignore[arg-type]


def run(engine: LLMEngine) -> dict[str, list[RequestOutput]]:
    outputs: dict[str, list[RequestOutput]] = {}
    while engine.has_unfinished_requests():
        for output in engine.step():
            outputs.setdefault(output.request_id, []).append(output)
    return outputs


def test_requests_join_and_leave_between_steps(engine: LLMEngine) -> None:
    """The loop of vLLM's own example; more requests than may wait in a server."""
    waiting = [(f"r{i}", [5 + i] * 9, greedy(4 + i)) for i in range(12)]
    outputs: dict[str, RequestOutput] = {}
    while waiting or engine.has_unfinished_requests():
        for _ in range(min(5, len(waiting))):
            request_id, prompt, params = waiting.pop(0)
            assert engine.add_request(request_id, prompt, params) == request_id
        outputs.update((output.request_id, output) for output in engine.step())
    assert sorted(outputs) == sorted(f"r{i}" for i in range(12))
    assert all(outputs[f"r{i}"].finished for i in range(12))
    assert [len(outputs[f"r{i}"].outputs[0].token_ids) for i in range(12)] == [4 + i for i in range(12)]
    assert engine.step() == []
    assert engine.get_num_unfinished_requests() == 0


def test_deltas_add_up_to_the_whole(engine: LLMEngine) -> None:
    engine.add_request("whole", "Hello", greedy(30, output_kind=RequestOutputKind.FINAL_ONLY, logprobs=1))
    engine.add_request("parts", "Hello", greedy(30, output_kind=RequestOutputKind.DELTA, logprobs=1))
    outputs = run(engine)
    [whole] = outputs["whole"]
    first, *later = outputs["parts"]
    for output in later:
        first.add(output, aggregate=True)
    assert first.finished
    assert first.outputs[0].token_ids == whole.outputs[0].token_ids
    assert first.outputs[0].text == whole.outputs[0].text
    assert first.outputs[0].logprobs == whole.outputs[0].logprobs
    assert first.outputs[0].finish_reason == "length"


def test_an_aborted_request_gives_nothing_more(engine: LLMEngine) -> None:
    engine.add_request("gone", "Hello", greedy(1000))
    engine.add_request("stays", "Hello", greedy(5))
    engine.abort_request(["gone", "unknown"])
    outputs = run(engine)
    assert set(outputs) == {"stays"}
    assert outputs["stays"][-1].finished
    engine.add_request("gone", "Hello", greedy(1000))
    engine.abort_request("gone")
    assert not engine.has_unfinished_requests()
    assert engine.step() == []
    assert engine.engine.num_unfinished == 0


def test_a_bad_request_is_refused_where_it_is_added(engine: LLMEngine) -> None:
    with pytest.raises(ValidationError, match="vocabulary"):
        engine.add_request("bad", [10**6], greedy())
    with pytest.raises(ValidationError, match="lora_request is not supported"):
        engine.add_request("bad", "Hello", greedy(), lora_request=object())  # type: ignore[arg-type]
    assert not engine.has_unfinished_requests()
    engine.add_request("cut", "one two three four", greedy(1), tokenization_kwargs={"truncate_prompt_tokens": 2})
    assert len(run(engine)["cut"][-1].prompt_token_ids) == 2


def test_housekeeping(engine: LLMEngine) -> None:
    engine.check_health()
    engine.do_log_stats()
    assert engine.get_supported_tasks() == ("generate",)
    tokenizer = engine.get_tokenizer()
    assert tokenizer is not None
    assert len(tokenizer.get_vocab()) == 576
    counters = {m.name: m.value for m in engine.get_metrics() if isinstance(m, Counter)}
    assert counters["octavo:generation_tokens"] > 0
    assert engine.reset_prefix_cache() is True
    engine.sleep(1)
    assert engine.is_sleeping()
    engine.wake_up()
    assert engine.collective_rpc("describe")[0]["device"] == "cpu"


def test_a_dead_core_ends_the_steps(tokenizer: Tokenizer) -> None:
    client = FakeCoreClient(lambda _: [5] * 100, step_seconds=0.001)
    with LLMEngine(make_engine(tokenizer, client)) as engine:
        engine.add_request("r", "Hello", SamplingParams(max_tokens=1000))
        assert engine.step()
        engine._thread._loop.call_soon_threadsafe(client.kill)
        with pytest.raises(EngineDeadError):
            run(engine)
        assert not engine.has_unfinished_requests()
    with pytest.raises(EngineDeadError, match="shut down"):
        engine.step()


def test_what_is_not_taken_is_merged(tokenizer: Tokenizer) -> None:
    ids = [*range(10, 60), 2]
    client = FakeCoreClient(lambda _: ids)
    with LLMEngine(make_engine(tokenizer, client)) as engine:
        engine.add_request("r", "Hello", SamplingParams(max_tokens=1000, output_kind=RequestOutputKind.DELTA))
        while client._running or client._waiting:
            pass
        outputs = run(engine)["r"]
    assert [token for output in outputs for token in output.outputs[0].token_ids] == ids
    assert len(outputs) <= 3
