"""Output side of one request: its sequences, prompt logprobs and times, and the RequestOutput made of them."""

from __future__ import annotations

import asyncio

import numpy as np
import numpy.typing as npt

from octavo.flat_logprobs import FlatLogprobs
from octavo.frontend.collector import Collector
from octavo.frontend.fan_out import FanOut
from octavo.frontend.logprobs import extend_positions
from octavo.frontend.sequence_output import SequenceOutput
from octavo.frontend.tokenizer import Tokenizer
from octavo.outputs import CompletionOutput, LogprobsOnePosition, PromptLogprobs, RequestMetrics, RequestOutput
from octavo.params import RequestOutputKind
from octavo.wire.logprobs import TokenLogprobs
from octavo.wire.messages import EventKind, RequestUpdate

_SEQUENCES_PER_TURN = 1024
"""Sequences whose outputs are made before other tasks of the event loop get their turn (some milliseconds)."""


class RequestState:
    """Everything the frontend keeps of one request until its last output is taken.

    Attributes:
        request_id: the caller's id; need not be unique.
        internal_id: unique in this engine.
        sequences: those sent to the core so far, by index.
        live_ids: the core's ids of those that have not ended.
        collector: where the consumer waits.
        has_news: the consumer is about to be told of something.
        pooled: what pooling gave, [D] or [tokens, D]; the request has ended then.
    """

    def __init__(
        self,
        request_id: str,
        internal_id: str,
        fan_out: FanOut,
        tokenizer: Tokenizer | None,
        arrival_time: float,
        stream_interval: int,
    ) -> None:
        self.request_id = request_id
        self.internal_id = internal_id
        self.fan_out = fan_out
        self.params = fan_out.processed.params
        self._kind = self.params.output_kind
        self._prompt = fan_out.processed.prompt
        self.prompt_token_ids = fan_out.processed.prompt_token_ids
        self.sequences: list[SequenceOutput] = []
        self.live_ids: set[str] = set()
        self.collector = Collector()
        self.has_news = False
        self.metrics = RequestMetrics(arrival_time=arrival_time)
        self.num_cached_tokens = 0
        self.pooled: npt.NDArray[np.float32] | None = None
        self.finish_reason: str | None = None
        self._num_finished = 0
        self._tokenizer = tokenizer
        self._token_text = tokenizer.token_text if tokenizer is not None and self.params.detokenize else None
        self._interval = max(stream_interval, self.params.stream_interval or 1)
        self._prompt_logprobs: list[LogprobsOnePosition | None] | FlatLogprobs | None = None
        self._prompt_logprobs_taken = False
        if self.params.prompt_logprobs is not None:
            self._prompt_logprobs = FlatLogprobs() if self.params.flat_logprobs else []
            self._prompt_logprobs.append(None)

    @property
    def finished(self) -> bool:
        """Every one of the n sequences has ended (or the request was aborted)."""
        return self.finish_reason is not None

    @property
    def num_prompt_logprobs(self) -> int:
        """Prompt positions scored so far, from position 1 on."""
        return 0 if self._prompt_logprobs is None else len(self._prompt_logprobs) - 1

    def start_sequence(self, index: int) -> SequenceOutput:
        """The next sequence has been made for the core."""
        detokenizer = None
        if self._tokenizer is not None and self.params.detokenize:
            detokenizer = self._tokenizer.detokenizers.new(
                self.prompt_token_ids, self.params.skip_special_tokens, self.params.spaces_between_special_tokens
            )
        sequence = SequenceOutput(index, self.params, detokenizer, self._token_text)
        self.sequences.append(sequence)
        return sequence

    def sequence_finished(self, sequence: SequenceOutput) -> None:
        """A sequence has ended; with the last one the request has."""
        self._num_finished += 1
        if self._num_finished == self.params.n:
            self.finish_reason = sequence.finish_reason

    def abort(self) -> None:
        """End whatever has not ended, with finish reason "abort"."""
        for sequence in self.sequences:
            if not sequence.finished:
                sequence.abort()
        self.finish_reason = "abort"
        self.collector.notify()

    def add_events(self, update: RequestUpdate) -> None:
        """Times and the prefix hit that the core reports."""
        for event in update.events:
            if event.kind is EventKind.QUEUED:
                self.metrics.queued_ts = self.metrics.queued_ts or event.timestamp
            elif event.kind is EventKind.SCHEDULED:
                self.metrics.scheduled_ts = self.metrics.scheduled_ts or event.timestamp
            else:
                self.metrics.num_preemptions += 1

    def add_prompt_logprobs(self, arrays: TokenLogprobs) -> None:
        """The next chunk; ignored when none were asked for."""
        if self._prompt_logprobs is not None:
            extend_positions(self._prompt_logprobs, arrays, self._token_text)

    def worth_waking(self, sequence: SequenceOutput) -> bool:
        """Whether the caller should hear of this sequence's news now."""
        if self._kind is RequestOutputKind.FINAL_ONLY:
            return self.finished
        new = sequence.num_new_tokens
        return sequence.finished or new >= self._interval or (new > 0 and sequence.num_tokens == new)

    @property
    def fits_a_turn(self) -> bool:
        """Whether `take` is work for one turn of the event loop; if not, `take_in_pieces` is for it."""
        return len(self.sequences) <= _SEQUENCES_PER_TURN

    def take(self) -> RequestOutput:
        """What the caller gets now: what is new (DELTA), or everything so far."""
        return self._output(self._take_sequences(self.sequences), self.finished)

    async def take_in_pieces(self) -> RequestOutput:
        """`take`, giving way to other tasks now and then; what comes meanwhile may be in it, or is news for the next time."""
        finished = self.finished
        outputs: list[CompletionOutput] = []
        for start in range(0, len(self.sequences), _SEQUENCES_PER_TURN):
            if start:
                await asyncio.sleep(0)
            outputs += self._take_sequences(self.sequences[start : start + _SEQUENCES_PER_TURN])
        return self._output(outputs, finished)

    def _take_sequences(self, sequences: list[SequenceOutput]) -> list[CompletionOutput]:
        kind = self._kind
        delta = kind is RequestOutputKind.DELTA
        return [s.take(kind) for s in sequences if s.changed or not delta]

    def _output(self, outputs: list[CompletionOutput], finished: bool) -> RequestOutput:
        delta = self._kind is RequestOutputKind.DELTA
        return RequestOutput(
            request_id=self.request_id,
            prompt=self._prompt,
            prompt_token_ids=self.prompt_token_ids,
            outputs=outputs,
            finished=finished,
            prompt_logprobs=None if self._prompt_logprobs is None else self._take_prompt_logprobs(delta),
            num_cached_tokens=self.num_cached_tokens,
            metrics=self.metrics,
        )

    def _take_prompt_logprobs(self, delta: bool) -> PromptLogprobs | None:
        """All of them once they are complete; as a delta, once."""
        scores = self._prompt_logprobs
        if scores is None or len(scores) < len(self.prompt_token_ids) or (delta and self._prompt_logprobs_taken):
            return None
        self._prompt_logprobs_taken = True
        return scores[:]
