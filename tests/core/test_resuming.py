"""A request that another core has begun: it goes on where that one ended, as if nothing had happened."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from core_configs import VOCAB_SIZE, make_config, make_request
from harness import Harness
from hypothesis import given
from hypothesis import strategies as st

from octavo.core.transport import MessageEncoder, client_decoder
from octavo.wire.messages import EngineRequest, EventKind, FinishReason


def begun(request: EngineRequest, output: list[int], num_prompt_logprobs: int = 0) -> EngineRequest:
    return msgspec.structs.replace(request, output_token_ids=output, num_prompt_logprobs=num_prompt_logprobs)


@given(
    prompt=st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=30),
    done=st.integers(0, 11),
    scored=st.integers(0, 29),
    sampling=st.fixed_dictionaries(
        {"seed": st.integers(0, 3), "min_tokens": st.integers(0, 12), "stop_token_ids": st.just((3, 4, 5))},
        optional={"logprobs": st.just(0), "prompt_logprobs": st.just(0)},
    ),
    budget=st.sampled_from([8, 32]),
    async_scheduling=st.booleans(),
)
def test_the_rest_is_what_it_would_have_been(
    prompt: list[int], done: int, scored: int, sampling: dict[str, Any], budget: int, async_scheduling: bool
) -> None:
    harness = Harness(make_config(max_num_batched_tokens=budget, async_scheduling=async_scheduling))
    whole = make_request("r", prompt, 12, **sampling)
    expected = harness.expected(whole)
    done, scored = min(done, len(expected) - 1), min(scored, len(prompt) - 1)
    others = [harness.add(make_request(f"other-{i}", [i + 1] * 7, 9)) for i in range(3)]
    received = harness.add(begun(whole, expected[:done], scored if "prompt_logprobs" in sampling else 0))
    harness.run()
    assert received.tokens == expected[done:]
    assert received.finish_reason is (
        FinishReason.LENGTH if len(expected) == 12 and expected[-1] not in (3, 4, 5) else FinishReason.STOP
    )
    if "prompt_logprobs" in sampling:
        assert received.prompt_positions == list(range(1 + scored, len(prompt)))
    if "logprobs" in sampling:
        assert received.logprob_positions == list(range(len(prompt) + done, len(prompt) + len(expected)))
    assert all(other.tokens == harness.expected(other.request) for other in others)


def test_tokens_of_another_core_are_no_prompt_in_the_books() -> None:
    harness = Harness(make_config())
    request = make_request("r", [1] * 12, 20)
    received = harness.add(begun(request, harness.expected(request)[:9]))
    harness.run()
    counters = harness.core.scheduler.counters
    assert (counters.prefix_queries, counters.prefix_hits, received.num_cached_tokens) == (0, 0, 0)
    assert received.events == [EventKind.QUEUED, EventKind.SCHEDULED]
    again = harness.add(make_request("again", [1] * 12, 1))
    harness.run()
    assert again.num_cached_tokens == 8, "what was computed again is found like any other prefix"


@pytest.mark.parametrize(
    ("output", "scored", "words"),
    [
        ([VOCAB_SIZE], 0, "token ids"),
        ([-1], 0, "token ids"),
        ([1] * 8, 0, "no room for more"),
        ([], 3, "log-probabilities"),
        ([], -1, "log-probabilities"),
    ],
)
def test_what_cannot_have_happened_is_refused(output: list[int], scored: int, words: str) -> None:
    harness = Harness(make_config())
    received = harness.add(begun(make_request("r", [1, 2, 3], 8), output, scored))
    harness.run()
    assert received.finish_reason is FinishReason.ERROR
    assert words in (received.error or "")


def test_a_message_without_the_new_fields_is_understood() -> None:
    request = make_request("r", [1, 2], 4)
    [document] = MessageEncoder().encode(request)
    fields = msgspec.msgpack.decode(document)
    assert fields[-4:] == [[], 0, None, {}]
    assert client_decoder().decode([msgspec.msgpack.encode(fields[:-4])]) == request
