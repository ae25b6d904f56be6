"""Requests whose output keeps to rules: the right mask at every token, under every schedule, and nobody else changed."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from core_configs import VOCAB_SIZE, make_config, make_request
from fake_executor import chain, next_allowed, next_token
from harness import Harness
from hypothesis import given, settings
from test_scheduling import cache_groups, config_for, configs, prompts

from octavo.cache_groups import CacheGroup
from octavo.wire.messages import EngineRequest, FinishReason

EOS = 7


class Rising:
    """Tokens that are 1 to 9 more than the one before, modulo the vocabulary; may end after every third, must after `most`."""

    def __init__(self, most: int, ends: bool = True) -> None:
        self.tokens: list[int] = []
        self.most = most
        self.ends = ends

    def allowed(self) -> list[int]:
        last = self.tokens[-1] if self.tokens else 0
        rising = [(last + i) % VOCAB_SIZE for i in range(1, 10)]
        ending = [EOS] if self.ends and self.tokens and len(self.tokens) % 3 == 0 else []
        return [token for token in rising if token != EOS] + ending

    def fill(self, bits: npt.NDArray[np.int32]) -> None:
        assert not bits.any()
        for token in self.allowed():
            bits.view(np.uint8)[token // 8] |= 1 << token % 8

    def accept(self, token_id: int) -> bool:
        if token_id == EOS or token_id not in self.allowed():
            return False
        self.tokens.append(token_id)
        return True

    @property
    def complete(self) -> bool:
        return len(self.tokens) >= self.most


class Wrong(Rising):
    """Its masks allow everything."""

    def fill(self, bits: npt.NDArray[np.int32]) -> None:
        bits[:] = -1


def constrain(request: EngineRequest) -> Rising | None:
    """By the request's id: c5 keeps to the rule and has at most 5 tokens, x5 has wrong masks, r5 is free."""
    kind, most = request.request_id[0], int(request.request_id[1:].split("_")[0])
    return {"c": Rising(most), "x": Wrong(most)}.get(kind)


def expected(request: EngineRequest) -> tuple[list[int], FinishReason]:
    """What a constrained request must get, whatever happens around it, and why it ends."""
    rule, content = constrain(request), 0
    assert rule is not None
    for token in request.prompt_token_ids:
        content = chain(content, token)
    tokens: list[int] = []
    while not rule.complete and len(tokens) < request.sampling.max_tokens:
        token = next_allowed(next_token(content, request.sampling.seed, VOCAB_SIZE), rule.allowed(), VOCAB_SIZE)
        tokens.append(token)
        if not rule.accept(token):
            return tokens, FinishReason.STOP
        content = chain(content, token)
    return tokens, FinishReason.STOP if rule.complete else FinishReason.LENGTH


@given(
    options=configs(),
    max_in_flight=st.integers(1, 4),
    groups=cache_groups,
    requests=st.lists(
        st.tuples(prompts(), st.integers(1, 10), st.sampled_from("ccr"), st.integers(1, 8)), min_size=1, max_size=10
    ),
)
@settings(max_examples=80, deadline=None)
def test_right_tokens_under_every_schedule(
    options: dict[str, Any], max_in_flight: int, groups: tuple[CacheGroup, ...], requests: list[tuple[list[int], int, str, int]]
) -> None:
    harness = Harness(config_for(options, groups), max_in_flight, groups, constrain=constrain)
    for index, (prompt, max_tokens, kind, most) in enumerate(requests):
        fits = min(max_tokens, 24 - len(prompt))
        harness.add(make_request(f"{kind}{most}_{index}", list(prompt), fits, eos_token_ids=(EOS,)))
    harness.run()
    for name, received in harness.received.items():
        if name[0] == "r":
            assert received.tokens == harness.expected(received.request)
        else:
            assert (received.tokens, received.finish_reason) == expected(received.request)


def test_a_complete_output_ends_without_another_step() -> None:
    harness = Harness(make_config(), constrain=constrain)
    received = harness.add(make_request("c4", [1, 2], 10))
    harness.run()
    assert (len(received.tokens), received.finish_reason) == (4, FinishReason.STOP)
    assert len(harness.executor.ledger.steps) == 4


def test_a_token_that_breaks_the_rule_ends_its_request_and_nobody_elses() -> None:
    harness = Harness(make_config(), constrain=constrain)
    broken, good, free = (harness.add(make_request(name, [3, 1, 4], 8, eos_token_ids=(EOS,))) for name in ("x8", "c8", "r8"))
    harness.run()
    assert broken.finish_reason is FinishReason.ERROR
    assert "grammar does not allow token" in (broken.error or "")
    assert (good.tokens, good.finish_reason) == expected(good.request)
    assert free.tokens == harness.expected(free.request)


@pytest.mark.parametrize("kept", range(5))
def test_goes_on_where_a_core_before_this_one_stopped(kept: int) -> None:
    request = make_request("c8", [3, 1, 4], 8, eos_token_ids=(EOS,))
    tokens, reason = expected(request)
    kept = min(kept, len(tokens) - 1)
    harness = Harness(make_config(), constrain=constrain)
    request.output_token_ids = tokens[:kept]
    received = harness.add(request)
    harness.run()
    assert (received.tokens, received.finish_reason) == (tokens[kept:], reason)


def test_an_output_so_far_that_breaks_the_rule_is_refused() -> None:
    harness = Harness(make_config(), constrain=constrain)
    request = make_request("c8", [3], 8)
    request.output_token_ids = [40]
    received = harness.add(request)
    harness.run()
    assert received.finish_reason is FinishReason.ERROR
    assert "does not keep to its grammar" in (received.error or "")


def test_rows_that_are_free_have_no_mask() -> None:
    harness = Harness(make_config(), constrain=constrain)
    harness.add(make_request("r1", [1, 2], 4))
    harness.run()
    assert all(step.masks is None for step in harness.executor.ledger.steps)
