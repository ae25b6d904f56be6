"""Counting and sending a request is one step: whatever fails in it, nothing stays counted, known or running."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from fake_core import FakeCoreClient, make_engine

from octavo.core.transport import MessageEncoder
from octavo.errors import EngineDeadError, QueueFullError, RequestFailedError, ValidationError
from octavo.frontend.admission import Admission
from octavo.frontend.async_llm import AsyncLLM
from octavo.frontend.fan_out import FanOut
from octavo.frontend.input_processor import InputProcessor
from octavo.frontend.output_processor import OutputProcessor
from octavo.frontend.request_state import RequestState
from octavo.frontend.sequence_output import SequenceOutput
from octavo.frontend.tokenizer import Tokenizer
from octavo.outputs import RequestOutput
from octavo.params import RepetitionDetection, RequestOutputKind, SamplingParams
from octavo.wire.messages import EngineRequest, Vocabulary

PARAMS = SamplingParams(n=5, seed=1, max_tokens=3, output_kind=RequestOutputKind.FINAL_ONLY)
WINDOW = 3


class EncodingClient(FakeCoreClient):
    """Encodes what it is given, as the real one does."""

    def __init__(self) -> None:
        super().__init__(lambda _: [100] * 50)
        self.encoder = MessageEncoder()

    def add(self, request: EngineRequest, vocabulary: Vocabulary | None = None) -> None:
        self.encoder.encode(request)
        super().add(request)

    @property
    def idle(self) -> bool:
        return not (self._running or self._waiting)


@pytest.fixture
def client() -> EncodingClient:
    return EncodingClient()


@pytest.fixture
def engine(tokenizer: Tokenizer, client: EncodingClient) -> AsyncLLM:
    return make_engine(tokenizer, client, max_num_seqs=WINDOW, max_num_queued_reqs=1)


async def collect(engine: AsyncLLM, params: SamplingParams = PARAMS, prompt: Any = "Hello") -> list[RequestOutput]:
    return [output async for output in engine.generate(prompt, params, "r")]


async def added(client: EncodingClient, count: int) -> None:
    """Until the core has been sent so many requests."""
    while len(client.added) < count:  # noqa: ASYNC110  (the fake core announces nothing)
        await asyncio.sleep(0)


def assert_nothing_counts(engine: AsyncLLM, client: EncodingClient) -> None:
    admission, outputs = engine._admission, engine._outputs
    assert (admission._not_scheduled, admission._not_scheduled_tokens, admission._running) == (0, 0, 0)
    assert (outputs._entries, outputs._requests, outputs._by_caller_id) == ({}, {}, {})
    assert engine.num_unfinished == 0
    assert client.idle


def failing_at(call: int, original: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    """`original`, whose call number `call` raises: before it has done its work, or after."""
    calls = 0

    def maybe(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != call:
            return original(*args, **options)
        if after:
            original(*args, **options)
        raise ZeroDivisionError("injected")

    return maybe


STEPS: list[tuple[Any, str, bool]] = [
    (FanOut, "next", False),
    (FanOut, "next", True),
    (RequestState, "start_sequence", False),
    (RequestState, "start_sequence", True),
    (Admission, "sequence_added", False),
    (OutputProcessor, "start_next", False),
    (OutputProcessor, "start_next", True),
    (OutputProcessor, "add", False),
    (OutputProcessor, "add", True),
    (MessageEncoder, "encode", False),
    (MessageEncoder, "encode", True),
    (EncodingClient, "add", False),
    (EncodingClient, "add", True),
    (AsyncLLM, "_start_timer", False),
    (AsyncLLM, "_new_state", False),
    (AsyncLLM, "_new_state", True),
]


@pytest.mark.parametrize("call", range(1, 6))
@pytest.mark.parametrize(("owner", "name", "after"), STEPS, ids=[f"{o.__name__}.{n}-{a}" for o, n, a in STEPS])
async def test_a_fault_at_any_step_leaves_nothing_behind(
    engine: AsyncLLM, client: EncodingClient, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, after: bool, call: int
) -> None:
    """The first WINDOW sequences are sent at once, the others as these end: a fault may come to any of them."""
    monkeypatch.setattr(owner, name, failing_at(call, getattr(owner, name), after=after))
    once_a_request = name in ("add", "_start_timer", "_new_state") and owner is not EncodingClient
    if call > 1 and once_a_request:
        assert len((await collect(engine))[-1].outputs) == PARAMS.n
    else:
        with pytest.raises((RequestFailedError, ZeroDivisionError), match="injected"):
            await collect(engine)
    assert_nothing_counts(engine, client)
    monkeypatch.undo()
    for _ in range(3):
        [final] = await collect(engine)
        assert [len(completion.token_ids) for completion in final.outputs] == [3] * PARAMS.n
    assert_nothing_counts(engine, client)


async def test_what_cannot_be_encoded_fails_alone(engine: AsyncLLM, client: EncodingClient) -> None:
    """Parameters may be changed after they were checked."""
    for _ in range(50):
        params = SamplingParams(n=16, max_tokens=2)
        params.repetition_detection = RepetitionDetection(max_pattern_size=2**70, min_count=2)
        with pytest.raises(RequestFailedError, match="could not be sent"):
            await collect(engine, params)
    assert_nothing_counts(engine, client)
    assert len((await collect(engine))[-1].outputs) == PARAMS.n


async def test_a_core_that_dies_between_two_sequences_leaves_nothing_counted(
    engine: AsyncLLM, client: EncodingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(request: EngineRequest, vocabulary: Vocabulary | None = None) -> None:
        if len(client.added) == 2:
            client.kill()
        FakeCoreClient.add(client, request)

    monkeypatch.setattr(client, "add", add)
    with pytest.raises(EngineDeadError):
        await collect(engine)
    assert engine._admission._not_scheduled == engine._admission._running == engine.num_unfinished == 0


async def test_the_queue_counts_only_what_lives(engine: AsyncLLM, client: EncodingClient) -> None:
    client.hold = asyncio.Event()
    task = asyncio.create_task(collect(engine, SamplingParams(n=4, max_tokens=2)))
    await added(client, WINDOW)
    second = asyncio.create_task(collect(engine, SamplingParams(max_tokens=2)))
    await added(client, WINDOW + 1)
    with pytest.raises(QueueFullError):
        await collect(engine)
    for waiting in (task, second):
        waiting.cancel()
    await asyncio.gather(task, second, return_exceptions=True)
    client.hold.set()
    assert_nothing_counts(engine, client)
    assert len((await collect(engine))[-1].outputs) == PARAMS.n


async def test_an_abort_that_crosses_with_the_next_sequence_sends_nothing_more(
    engine: AsyncLLM, client: EncodingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sequence has ended and the next is due, but its request ends first: nobody would ever end that sequence."""
    process = OutputProcessor.process

    async def slow(self: OutputProcessor, outputs: Any) -> Any:
        follow_up = await process(self, outputs)
        if follow_up.due:
            await engine.abort("r")
        return follow_up

    monkeypatch.setattr(OutputProcessor, "process", slow)
    [final] = await collect(engine)
    assert len(final.outputs) == len(client.added) == WINDOW
    assert_nothing_counts(engine, client)


async def test_an_abort_that_overtakes_its_request_ends_it(
    engine: AsyncLLM, client: EncodingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its prompt is tokenized in a thread, nobody knows of the request but who sent it."""
    tokenized = asyncio.Event()
    process = InputProcessor.process

    async def slow(self: InputProcessor, *args: Any) -> Any:
        await tokenized.wait()
        return await process(self, *args)

    monkeypatch.setattr(InputProcessor, "process", slow)
    first = asyncio.create_task(collect(engine))
    await asyncio.sleep(0)
    await engine.abort(["someone else", "r"])
    second = asyncio.create_task(collect(engine))
    await asyncio.sleep(0)
    tokenized.set()
    outputs = await first
    assert outputs[-1].finished
    assert {completion.finish_reason for completion in outputs[-1].outputs} == {"abort"}
    assert [len(completion.token_ids) for completion in (await second)[-1].outputs] == [3] * PARAMS.n, "it came later"
    assert_nothing_counts(engine, client)
    assert engine._arriving == []
    with pytest.raises(ValidationError):
        await collect(engine, prompt=[10**6])
    assert engine._arriving == []


async def test_a_fault_while_aborting_still_ends_the_request(
    engine: AsyncLLM, client: EncodingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = engine.generate("Hello", SamplingParams(n=2, max_tokens=50), "r")
    await anext(generator)
    monkeypatch.setattr(SequenceOutput, "abort", failing_at(1, SequenceOutput.abort, after=False))
    await engine.abort("r")
    with pytest.raises(RequestFailedError, match="injected"):
        await anext(generator)
    assert_nothing_counts(engine, client)


async def test_ids_of_requests_and_of_their_sequences_never_meet(engine: AsyncLLM, client: EncodingClient) -> None:
    """Ids that look like those which the engine makes of others."""
    client.hold = asyncio.Event()
    names = ["x", "x-1", "x-1-0", "0-x", "x-0", "1-x", "x", "2-x-1"]
    params = SamplingParams(n=3, max_tokens=2, output_kind=RequestOutputKind.FINAL_ONLY)
    tasks = []
    for name in names:
        for one in (params, SamplingParams(max_tokens=2, output_kind=RequestOutputKind.FINAL_ONLY)):
            engine._admission._max_reqs = 0
            tasks.append(asyncio.create_task(anext(engine.generate("Hello", one, name))))
            await asyncio.sleep(0)
    await added(client, 4 * len(names))
    assert len({request.request_id for request in client.added}) == 4 * len(names)
    client.hold.set()
    finals = await asyncio.gather(*tasks)
    assert [final.request_id for final in finals] == [name for name in names for _ in range(2)]


@pytest.mark.parametrize(
    ("prompt", "request_id", "parameter"),
    [("Hello", "\ud800", "request_id"), ({"prompt": "Hello", "cache_salt": "a\udfff"}, "r", "cache_salt")],
)
async def test_text_that_is_no_text_is_refused(engine: AsyncLLM, prompt: Any, request_id: str, parameter: str) -> None:
    with pytest.raises(ValidationError) as caught:
        await anext(engine.generate(prompt, PARAMS, request_id))
    assert caught.value.parameter == parameter


async def test_numbers_of_other_types_are_sent_as_what_they_are(engine: AsyncLLM, client: EncodingClient) -> None:
    class Whole(int):
        pass

    class Real(float):
        pass

    params = SamplingParams(
        max_tokens=Whole(2), min_tokens=Whole(1), top_k=Whole(3), seed=Whole(4), logprobs=Whole(1), prompt_logprobs=Whole(0),
        temperature=Real(0.5), top_p=Real(0.5), min_p=Real(0.1), presence_penalty=Real(0.1), frequency_penalty=Whole(1),
        repetition_penalty=Real(1.5), logit_bias={5: Real(1.0)},
    )  # fmt: skip
    assert (await collect(engine, params))[-1].finished
    sent = msgspec.msgpack.decode(MessageEncoder().encode(client.added[0])[0], type=EngineRequest)
    assert sent.sampling.top_k == 3
    assert sent.sampling.logit_bias == {5: 1.0}
