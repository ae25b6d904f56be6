"""The runner: the same tokens however the work is cut, failures that stay with their request, prompt logprobs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_model import (
    VOCAB,
    Driver,
    FakeModel,
    context_hash,
    greedy_tokens,
    logits_after,
    make_config,
    make_runner,
    spec,
    step_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import assert_sums

from octavo.executor import logprobs as logprobs_module
from octavo.executor.step import NewRequest
from octavo.executor.uniproc import UniprocExecutor

PROMPTS = {"a": [1, 2, 3, 4, 5, 6, 7], "b": [9] * 13, "c": [11], "d": list(range(40)), "e": [3, 1, 4, 1, 5]}


@pytest.mark.parametrize("chunk", [1, 3, 16, 1000])
def test_batched_and_chunked_equals_alone(chunk: int) -> None:
    driver = Driver(make_runner())
    for name, prompt in PROMPTS.items():
        driver.join(name, prompt, spec())
    driver.run(12, chunk)
    for name, prompt in PROMPTS.items():
        assert driver.outputs[name][:12] == greedy_tokens(prompt, 12)


def test_nothing_is_sampled_inside_the_prompt() -> None:
    driver = Driver(make_runner())
    driver.join("d", PROMPTS["d"], spec())
    assert driver.step({"d": 39}).sampled == {}
    assert list(driver.step({"d": 1}).sampled) == ["d"]


@pytest.mark.parametrize(
    "sampling", [spec(), spec(1.0, seed=5), spec(1.0, seed=5, frequency_penalty=0.7, repetition_penalty=1.3)]
)
def test_preempted_and_resumed_goes_on_as_if_nothing_happened(sampling: object) -> None:
    def tokens(preempt_at: int | None) -> list[int]:
        driver = Driver(make_runner())
        driver.join("a", PROMPTS["a"], sampling)  # type: ignore[arg-type]
        driver.join("b", PROMPTS["b"], spec())
        for i in range(20):
            if i == preempt_at:
                driver.preempt("a")
            driver.step({"a": 5, "b": 5})
        driver.run(12)
        return driver.outputs["a"][:12]

    assert tokens(None) == tokens(7) == tokens(11)


def test_steps_in_flight_read_tokens_the_host_has_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = UniprocExecutor(make_config())
    monkeypatch.setattr("octavo.executor.loader.load_model", lambda *_: FakeModel())
    executor.start(lambda *_: None)
    driver = Driver(None, executor.num_blocks)  # type: ignore[arg-type]
    for name in "abd":
        driver.join(name, PROMPTS[name], spec())
    pending = []
    for i in range(40):
        if i == 9:
            driver.join("e", PROMPTS["e"], spec())
        pending.append(executor.submit(driver.make_step(dict.fromkeys(driver.blocks, 4))))
        if len(pending) == 3:
            driver.take(pending.pop(0).result())
    for future in pending:
        driver.take(future.result())
    executor.shutdown()
    for name in "abde":
        assert len(driver.outputs[name]) > 20
        assert driver.outputs[name] == greedy_tokens(PROMPTS[name], len(driver.outputs[name]))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_schedule_gives_the_same_tokens(data: st.DataObject) -> None:
    driver = Driver(make_runner())
    prompts = {}
    for i in range(data.draw(st.integers(5, 30))):
        match data.draw(st.sampled_from(["join", "preempt", "leave", "step", "step", "step", "step"])):
            case "join" if len(driver.blocks) < 16:
                prompts[f"r{i}"] = data.draw(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=30))
                driver.join(f"r{i}", prompts[f"r{i}"], spec())
                driver.step({f"r{i}": data.draw(st.integers(1, 40))})
            case "preempt" if driver.blocks:
                driver.preempt(name := data.draw(st.sampled_from(sorted(driver.blocks))))
                driver.step({name: data.draw(st.integers(1, 40))})
            case "leave" if driver.blocks:
                driver.leave(data.draw(st.sampled_from(sorted(driver.blocks))))
            case "step":
                some = data.draw(st.lists(st.sampled_from(sorted(driver.blocks)), unique=True)) if driver.blocks else []
                driver.step({name: data.draw(st.integers(1, 8)) for name in some})
    for name, prompt in prompts.items():
        assert driver.outputs[name] == greedy_tokens(prompt, len(driver.outputs[name]))


def test_prefix_hit_reads_the_other_requests_blocks() -> None:
    driver = Driver(make_runner())
    driver.join("d", PROMPTS["d"], spec())
    driver.run(3)
    shared = driver.blocks["d"][:9]
    joining = NewRequest(7, "x", PROMPTS["d"][:38], 38, 36, [[*shared, 200]], spec())
    output = driver.runner.execute(step_of(9, {7: 2}, [joining]))
    assert output.tokens_of()[7] == greedy_tokens(PROMPTS["d"][:38], 1)


# ---- failures --------------------------------------------------------------------------------------------------------


def test_broken_logits_fail_one_request_alone() -> None:
    model = FakeModel()
    driver = Driver(make_runner(model))
    for name in "abc":
        driver.join(name, PROMPTS[name], spec(1.0 if name == "c" else 0.0, logprobs=1))
    driver.run(2)
    model.broken_hashes = {context_hash(driver.known["b"]), context_hash(driver.known["c"])}
    output = driver.step(dict.fromkeys("abc", 1))
    assert set(output.sampled) == set(output.logprobs) == {"a"}
    assert set(output.errors) == {"b", "c"}
    assert "not finite" in output.errors["b"]
    # A step that was queued before the failure was known still names them.
    output = driver.step(dict.fromkeys("abc", 1))
    assert set(output.sampled) == {"a"}
    assert set(output.errors) == {"b", "c"}
    model.broken_hashes = set()
    driver.leave("b")
    driver.leave("c")
    driver.join("b", PROMPTS["b"], spec())
    driver.run(8)
    assert driver.outputs["a"] == greedy_tokens(PROMPTS["a"], len(driver.outputs["a"]))
    assert driver.outputs["b"] == greedy_tokens(PROMPTS["b"], 8)


def test_all_tokens_forbidden_is_that_requests_error() -> None:
    driver = Driver(make_runner())
    driver.join("a", PROMPTS["a"], spec(allowed_token_ids=(4,), bad_token_sequences=((4,),)))
    driver.join("b", PROMPTS["b"], spec())
    output = driver.step({"a": 100, "b": 100})
    assert list(output.sampled) == ["b"]
    assert "forbid every token" in output.errors["a"]


def test_a_failed_step_leaves_a_working_runner() -> None:
    model = FakeModel()
    driver = Driver(make_runner(model))
    for name in "ab":
        driver.join(name, PROMPTS[name], spec())
    driver.run(2)
    model.fail_next = True
    with pytest.raises(RuntimeError, match="device lost"):
        driver.step({"a": 1, "b": 1})
    driver.join("c", PROMPTS["c"], spec())
    output = driver.step({"a": 1, "c": 100})
    assert list(output.errors) == ["a"]
    assert output.sampled["c"] == greedy_tokens(PROMPTS["c"], 1)
    driver.known["b"] = driver.known["b"][: len(PROMPTS["b"]) + 2]
    driver.leave("a")
    driver.preempt("b")
    driver.run(6)
    assert driver.outputs["b"] == greedy_tokens(PROMPTS["b"], 6)
    assert driver.outputs["c"] == greedy_tokens(PROMPTS["c"], 6)


def test_a_request_whose_join_failed_can_leave() -> None:
    runner = make_runner()
    bad = NewRequest(0, "a", [1] * 999, 999, 0, [[0]], spec())
    good = NewRequest(1, "b", [1, 2], 2, 0, [[0]], spec())
    with pytest.raises(ValueError, match="max_model_len"):
        runner.execute(step_of(0, {0: 999, 1: 2}, [bad, good]))
    assert set(runner.execute(step_of(1, {0: 1}, new_blocks={0: [[3]]})).errors) == {0}
    output = runner.execute(step_of(2, {1: 2}, [good], [0, 1]))
    assert output.tokens_of()[1] == greedy_tokens([1, 2], 1)
    assert not output.errors
    assert len(runner.batch) == 1


def test_a_step_that_only_drops_requests() -> None:
    driver = Driver(make_runner())
    driver.join("a", PROMPTS["a"], spec())
    driver.run(1)
    driver.leave("a")
    output = driver.step({})
    assert output.sampled == {}
    assert len(driver.runner.batch) == 0


# ---- prompt logprobs -------------------------------------------------------------------------------------------------


def naive_prompt_scores(prompt: list[int], k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids, values, ranks = [], [], []
    for t in range(1, len(prompt)):
        scores = torch.log_softmax(logits_after(prompt[:t]), 0)
        columns = [prompt[t], *scores.topk(k).indices.tolist()]
        ids.append(columns)
        values.append(scores[columns].tolist())
        ranks.append(1 + int((scores > scores[prompt[t]]).sum()))
    return np.array(ids), np.array(values), np.array(ranks)


@pytest.mark.parametrize("chunk", [1, 3, 16, 1000])
@pytest.mark.parametrize("k", [0, 3, VOCAB])
def test_prompt_logprobs_equal_naive_log_softmax(chunk: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logprobs_module, "SCRATCH_BYTES", 5 * (48 * VOCAB + 40 * k))
    model = FakeModel()
    driver = Driver(make_runner(model))
    driver.join("a", PROMPTS["a"], spec())
    driver.join("d", PROMPTS["d"], spec(prompt_logprobs=k))
    driver.run(3, chunk)
    assert all("a" not in output.prompt_logprobs for output in driver.steps)
    parts = [output.prompt_logprobs["d"] for output in driver.steps if "d" in output.prompt_logprobs]
    if chunk == 16:
        assert [len(part.ranks) for part in parts] == [16, 16, 7]
    ids, values, ranks = naive_prompt_scores(PROMPTS["d"], k)
    assert np.concatenate([part.token_ids for part in parts]).tolist() == ids.tolist()
    scores = torch.from_numpy(np.concatenate([part.logprobs for part in parts]))
    assert_sums(scores, torch.from_numpy(values).float(), VOCAB, 1.0 + abs(float(values.min())))
    assert np.concatenate([part.ranks for part in parts]).tolist() == ranks.tolist()
    assert parts[0].token_ids.dtype == parts[0].ranks.dtype == np.int32
    assert parts[0].logprobs.dtype == np.float32
    assert model.most_logits_rows <= 5, "more rows of logits at once than the bound allows"


def test_resumed_request_scores_exactly_the_prompt_tokens_it_computes_again() -> None:
    driver = Driver(make_runner())
    driver.join("e", PROMPTS["e"], spec(prompt_logprobs=1))
    driver.run(4)
    driver.preempt("e")
    output = driver.step({"e": 3})
    assert output.prompt_logprobs["e"].token_ids[:, 0].tolist() == PROMPTS["e"][1:4]
    output = driver.step({"e": 100})
    assert output.prompt_logprobs["e"].token_ids[:, 0].tolist() == PROMPTS["e"][4:]
    assert "e" not in driver.step({"e": 1}).prompt_logprobs


@pytest.mark.parametrize(("vocab_size", "k"), [(1000, 0), (151_936, 20), (262_144, 262_144)])
def test_chunk_of_logits_stays_within_256_mib(vocab_size: int, k: int) -> None:
    rows = logprobs_module.rows_at_once(vocab_size, k)
    assert rows >= 1
    assert rows * (48 * vocab_size + 40 * k) <= 256 << 20
