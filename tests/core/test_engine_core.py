"""The loop: refusals, control calls, and failures that stay where they happen."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from core_configs import FULL, VOCAB_SIZE, make_config, make_request
from harness import CLIENT, Harness, Received

from octavo.core.admission import RequestChecker
from octavo.core.core_io import Disconnected, NotSent
from octavo.core.engine_core import MAX_FAILURES, FatalError, served_model_len
from octavo.core.request import Request
from octavo.core.request_queue import FCFSQueue
from octavo.errors import ConfigError
from octavo.params import RepetitionDetection
from octavo.wire.messages import (
    AbortRequests,
    ControlCall,
    ControlReply,
    CoreOutputs,
    EngineRequest,
    FinishReason,
    NewTokens,
    RequestUpdate,
)


@pytest.fixture(params=[False, True], ids=["synchronous", "async"])
def harness(request: pytest.FixtureRequest) -> Harness:
    return Harness(make_config(async_scheduling=request.param))


@pytest.mark.parametrize(
    ("prompt", "sampling", "words"),
    [
        ([], {}, "empty"),
        ([VOCAB_SIZE], {}, "token ids"),
        ([-1], {}, "token ids"),
        ([2**70], {}, "token ids"),
        ([1] * 64, {}, "no room for output"),
        ([1], {"max_tokens": 0}, "max_tokens"),
        ([1], {"seed": -1}, "seed"),
        ([1], {"seed": 2**64}, "seed"),
        ([1], {"temperature": float("nan")}, "finite"),
        ([1], {"logit_bias": {VOCAB_SIZE: 1.0}}, "logit_bias"),
        ([1], {"allowed_token_ids": (-1,)}, "allowed_token_ids"),
        ([1], {"stop_token_ids": (10**12,)}, "stop_token_ids"),
        ([1], {"bad_token_sequences": ((1, VOCAB_SIZE),)}, "bad_words"),
        ([1], {"logprobs": 10**9}, "logprobs"),
        ([1], {"prompt_logprobs": -1}, "prompt_logprobs"),
        ([1], {"repetition_detection": RepetitionDetection(max_pattern_size=1)}, "min_count"),
    ],
)
def test_what_cannot_be_served_is_refused_and_nothing_else_is(
    harness: Harness, prompt: list[int], sampling: dict[str, Any], words: str
) -> None:
    good = harness.add(make_request("good", [1, 2, 3], 5))
    bad = harness.add(make_request("bad", prompt, **{"max_tokens": 4, **sampling}))
    harness.run()
    assert bad.finish_reason is FinishReason.ERROR
    assert words in (bad.error or "")
    assert good.tokens == harness.expected(good.request)


def test_tokens_with_nothing_else_to_tell_travel_in_columns(harness: Harness) -> None:
    requests = [harness.add(make_request(name, [1, 2, 3], 5)) for name in "ab"]
    harness.run()
    assert sorted(update.request_id for outputs in harness.outputs for update in outputs.updates) == ["a", "a", "b", "b"]
    assert sum(len(outputs.tokens.token_ids) for outputs in harness.outputs) == 6
    assert all(received.tokens == harness.expected(received.request) for received in requests)


def test_the_longest_prompt_gets_its_one_token(harness: Harness) -> None:
    longest = harness.add(make_request("r", [1] * 63, 100))
    harness.run()
    assert len(longest.tokens) == 1
    assert longest.finish_reason is FinishReason.LENGTH


def test_a_request_id_used_twice_ends_both(harness: Harness) -> None:
    first = harness.add(make_request("r", [1], 20))
    harness.step()
    harness.inbox.put((b"test client", make_request("r", [2], 20)))
    harness.run()
    assert first.finish_reason is FinishReason.ERROR
    assert "in use" in (first.error or "")


def test_a_row_that_fails_leaves_the_others_alone(harness: Harness) -> None:
    harness.executor.fail_rows = {2: 1}
    requests = [harness.add(make_request(f"r{i}", [i] * 5, 8)) for i in range(4)]
    harness.run()
    assert [r.finish_reason for r in requests] == [FinishReason.ERROR] + [FinishReason.LENGTH] * 3
    assert requests[0].error == "this row was told to fail"
    assert all(r.tokens == harness.expected(r.request) for r in requests[1:])


def test_what_a_failed_row_computed_is_not_shared(harness: Harness) -> None:
    harness.executor.fail_rows = {0: 1}
    harness.add(make_request("bad", [7] * 9, 8))
    harness.run()
    good = harness.add(make_request("good", [7] * 9, 8))
    harness.run()
    assert good.num_cached_tokens == 0
    assert good.tokens == harness.expected(good.request)


def test_a_step_that_raises_ends_its_requests_only(harness: Harness) -> None:
    harness.executor.fail_steps = {3}
    old = harness.add(make_request("old", [1] * 9, 30))
    for _ in range(3):
        harness.step()
    new = harness.add(make_request("new", [1] * 9, 8))
    harness.run()
    assert old.finish_reason is FinishReason.ERROR
    assert "step 3 failed: RuntimeError" in (old.error or "")
    late = harness.add(make_request("late", [1] * 9, 8))
    harness.run()
    assert late.tokens == harness.expected(late.request)
    if new.finish_reason is not FinishReason.ERROR:
        assert new.tokens == harness.expected(new.request)


def test_what_was_computed_after_a_failed_step_is_not_shared() -> None:
    """The late request starts on blocks that the failing step was to fill; what it computes then must never be found."""
    harness = Harness(make_config(async_scheduling=True))
    harness.executor.fail_steps = {0}
    harness.add(make_request("bad", [1] * 9, 8))
    harness.step()
    late = harness.add(make_request("late", [1] * 9 + [2] * 8, 8))
    harness.run()
    assert late.tokens == harness.expected(late.request)
    assert late.num_preemptions == 1
    again = harness.add(make_request("again", [1] * 9 + [2] * 8 + [3], 8))
    harness.run()
    assert again.num_cached_tokens == 16
    assert again.tokens == harness.expected(again.request)


def test_an_error_in_our_own_bookkeeping_fails_everyone_and_goes_on(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    request = harness.add(make_request("r", [1] * 9, 8))
    harness.step()
    monkeypatch.setattr(type(harness.core.scheduler), "_schedule_running", lambda *_: 1 // 0)
    harness.step()
    monkeypatch.undo()
    harness.run()
    assert request.finish_reason is FinishReason.ERROR
    assert "ZeroDivisionError" in (request.error or "")
    again = harness.add(make_request("again", [1] * 9, 8))
    harness.run()
    assert again.tokens == harness.expected(again.request)


def test_step_after_step_failing_ends_the_core(harness: Harness) -> None:
    harness.executor.fail_steps = set(range(100))
    requests = [harness.add(make_request(f"r{i}", [1], 8)) for i in range(30)]
    with pytest.raises(FatalError, match="in a row"):
        harness.run()
    assert sum(r.finish_reason is FinishReason.ERROR for r in requests) >= MAX_FAILURES


def test_a_dead_executor_ends_the_core_at_once(harness: Harness) -> None:
    harness.executor.fail_steps = {0}
    harness.executor.healthy = False
    request = harness.add(make_request("r", [1], 8))
    with pytest.raises(FatalError, match="on fire"):
        harness.run()
    assert request.finish_reason is FinishReason.ERROR


def test_control_calls(harness: Harness) -> None:
    assert harness.call("ping").error is None
    assert harness.call("reset_prefix_cache").value is True
    assert "unknown method 'nonsense'" in (harness.call("nonsense").error or "")
    assert "argument" in (harness.call("ping", 1, 2, 3).error or "")
    harness.add(make_request("r", [1] * 9, 8))
    harness.step()
    stats = harness.call("stats").value
    assert stats["num_running"] == 1
    assert stats["num_free_blocks"] < stats["num_blocks"] == 64
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(stats)) == stats
    harness.run()
    assert harness.call("check_integrity").error is None
    assert harness.call("stats").value["num_cached_blocks"] == 4


def test_a_ping_is_answered_between_any_two_steps_of_a_long_prompt() -> None:
    """So a long prompt alone is never taken for a core that hangs."""
    harness = Harness(make_config(max_num_batched_tokens=4))
    request = harness.add(make_request("r", [1] * 60, 2))
    num_steps = 0
    while not request.tokens:
        answered = len(harness.replies)
        harness.inbox.put((CLIENT, ControlCall(num_steps, "ping")))
        harness.step()
        num_steps += 1
        assert len(harness.replies) == answered + 1
    assert num_steps > 10
    harness.run()


def test_reset_prefix_cache_makes_the_next_prompt_compute_everything(harness: Harness) -> None:
    for hit in (0, 8, None, 0):
        if hit is None:
            harness.call("reset_prefix_cache")
            continue
        request = harness.add(make_request(f"r{len(harness.received)}", [4] * 9, 2))
        harness.run()
        assert request.num_cached_tokens == hit


def test_after_an_abort_everyone_hears_that_the_core_is_idle(harness: Harness) -> None:
    harness.add(make_request("r", [1] * 9, 50))
    for _ in range(4):
        harness.step()
    assert harness.outputs[-1].stats is not None
    assert harness.outputs[-1].stats.num_running == 1
    harness.abort("r", "unknown")
    while not harness.core.idle:
        harness.step()
    harness.inbox.put((b"nobody", EngineRequest("r", [1], harness.received["r"].request.sampling, 0.0)))
    harness.core.take_messages(wait=True)
    assert harness.outputs[-1].stats is not None
    assert harness.outputs[-1].stats.num_running == 0
    assert harness.core.scheduler.kv.usage == 0.0


@pytest.mark.parametrize("fails", ["checking", "making", "queueing"])
def test_a_request_that_cannot_be_queued_leaves_nothing_behind(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    good = harness.add(make_request("good", [1, 2, 3], 5))
    harness.step()
    owner: Any = {"checking": RequestChecker, "making": Request, "queueing": FCFSQueue}[fails]
    monkeypatch.setattr(owner, {"checking": "fault", "making": "__init__", "queueing": "push"}[fails], lambda *_: 1 // 0)
    bad = harness.add(make_request("bad", [1, 2, 3], 5))
    harness.step()
    monkeypatch.undo()
    assert bad.finish_reason is FinishReason.ERROR
    assert "ZeroDivisionError" in (bad.error or "")
    again = harness.add(make_request("bad", [1, 2, 3], 5))
    harness.run()
    assert good.tokens == harness.expected(good.request)
    assert again.tokens == harness.expected(again.request)


def test_outputs_that_could_not_be_sent_end_their_requests(harness: Harness) -> None:
    requests = [harness.add(make_request(name, [1, 2, 3], 30)) for name in ("kept", "a", "b")]
    harness.step()
    ended = harness.received["ended"] = Received(make_request("ended", [1]))
    lost = CoreOutputs([RequestUpdate("a", [1]), RequestUpdate("ended", [1])], 0.0, tokens=NewTokens(["b"], [1]))
    harness.inbox.put((CLIENT, NotSent(lost, "too heavy")))
    harness.core.take_messages(wait=False)
    for received in (*requests[1:], ended):
        assert received.finish_reason is FinishReason.ERROR
        assert "too heavy" in (received.error or "")
    assert harness.call("stats").value["num_running"] + harness.call("stats").value["num_waiting"] == 1
    harness.inbox.put((CLIENT, NotSent(ControlReply(77, object()), "no such type")))
    harness.core.take_messages(wait=False)
    assert (harness.replies[-1].call_id, "no such type" in (harness.replies[-1].error or "")) == (77, True)
    assert requests[0].finish_reason is None


def test_a_lost_client_that_speaks_on_is_told_so(harness: Harness) -> None:
    harness.add(make_request("r", [1, 2, 3], 30))
    harness.step()
    harness.inbox.put((CLIENT, Disconnected()))
    harness.step()
    assert harness.core.scheduler.num_running == 0
    assert harness.told_lost == []
    for number, message in enumerate((make_request("s", [1]), AbortRequests(["r"]), ControlCall(1, "ping")), 1):
        harness.inbox.put((CLIENT, message))
        harness.step()
        assert len(harness.told_lost) == number
    harness.inbox.put((CLIENT, Disconnected()))
    harness.step()
    assert {identity for identity, _ in harness.told_lost} == {CLIENT}
    assert "lost" in harness.told_lost[0][1]
    harness.run()


def test_the_model_length_is_fitted_to_the_cache_only_if_nobody_asked_for_it() -> None:
    assert served_model_len(make_config(max_model_len=64), FULL, 16) == 64
    assert served_model_len(make_config(max_model_len=64, fit_max_model_len=True), FULL, 10) == 40
    with pytest.raises(ConfigError, match="--max-model-len 64"):
        served_model_len(make_config(max_model_len=64), FULL, 15)
