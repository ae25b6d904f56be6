"""No request holds the event loop: what the core sent, and what n samples give, is worked on in turns that end."""

from __future__ import annotations

import asyncio

import pytest
from fake_core import FakeCoreClient, make_engine

from octavo.frontend import output_pump, request_state
from octavo.frontend.async_llm import AsyncLLM
from octavo.frontend.tokenizer import Tokenizer
from octavo.outputs import RequestOutput
from octavo.params import RequestOutputKind, SamplingParams
from octavo.wire.messages import CoreOutputs

IDS = [*range(100, 400), 2]


class FasterCore(FakeCoreClient):
    """There is always another step's outputs already, until all are done."""

    async def outputs(self) -> CoreOutputs:
        self.has_outputs = len(self._running) > 0
        if not self.has_outputs:
            outputs = await super().outputs()
            self.has_outputs = bool(self._running)
            return outputs
        outputs = self._step()
        self.has_outputs = bool(self._running)
        return outputs


async def collect(engine: AsyncLLM, **params: object) -> list[RequestOutput]:
    return [output async for output in engine.generate("Hello", SamplingParams(**params), "r")]  # type: ignore[arg-type]


async def test_behind_a_faster_core_others_have_their_turn_and_consumers_hear(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_pump, "_TURN", 0.0)
    monkeypatch.setattr(output_pump, "_DELIVERY_INTERVAL", 0.0)
    engine = make_engine(tokenizer, FasterCore(lambda _: IDS))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    outputs = await collect(engine, max_tokens=None, output_kind=RequestOutputKind.DELTA)
    counting.cancel()
    assert [i for output in outputs for i in output.outputs[0].token_ids] == IDS
    assert len(outputs) > 10, "not only when the core has nothing more to say"
    assert turns > len(IDS) // 2
    engine.shutdown()


@pytest.mark.parametrize("kind", list(RequestOutputKind))
async def test_samples_taken_in_pieces_are_those_taken_at_once(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, kind: RequestOutputKind
) -> None:
    async def samples() -> dict[int, tuple[list[int], str, str | None]]:
        engine = make_engine(tokenizer, FakeCoreClient(lambda request: [100 + request.sampling.seed % 100, *IDS[:20], 2]))
        outputs = await collect(engine, n=11, temperature=1.0, seed=5, max_tokens=None, output_kind=kind)
        engine.shutdown()
        assert [output.finished for output in outputs] == [False] * (len(outputs) - 1) + [True]
        found: dict[int, tuple[list[int], str, str | None]] = {}
        for output in outputs:
            for one in output.outputs:
                ids, text, _ = found.get(one.index, ([], "", None)) if kind is RequestOutputKind.DELTA else ([], "", None)
                found[one.index] = ([*ids, *one.token_ids], text + one.text, one.finish_reason)
        return found

    at_once = await samples()
    monkeypatch.setattr(request_state, "_SEQUENCES_PER_TURN", 2)
    assert await samples() == at_once
    assert len(at_once) == 11
    assert {reason for _, _, reason in at_once.values()} == {"stop"}
