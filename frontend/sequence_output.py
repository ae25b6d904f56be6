"""Output side of one sequence: its tokens, text, logprobs and end, and what of them the caller has not taken yet."""

from __future__ import annotations

from array import array

from octavo.flat_logprobs import FlatLogprobs
from octavo.frontend.detokenizer import Detokenizer
from octavo.frontend.logprobs import TokenText, extend_positions
from octavo.frontend.stop_strings import StopMatcher
from octavo.outputs import CompletionOutput, LogprobsOnePosition, SampleLogprobs
from octavo.params import RequestOutputKind, SamplingParams
from octavo.wire.messages import FinishReason, RequestUpdate

_Logprobs = list[LogprobsOnePosition] | FlatLogprobs


class SequenceOutput:
    """One of a request's `n` sequences.

    Attributes:
        num_tokens: all so far.
        changed: there is something the caller has not taken.
        scheduled: the core has begun with it.
        last_token_ts: when its last token was known; 0.0 before the first.
    """

    __slots__ = (
        "_all_logprobs", "_all_text", "_all_token_ids", "_cumulative_logprob", "_detokenizer", "_new_logprobs",
        "_new_text", "_new_token_ids", "_params", "_stop", "_taken_token_ids", "_token_text", "changed", "finish_reason", "index",
        "last_token_ts", "num_tokens", "scheduled", "stop_reason",
    )  # fmt: skip

    def __init__(
        self, index: int, params: SamplingParams, detokenizer: Detokenizer | None, token_text: TokenText | None
    ) -> None:
        self.index = index
        self.num_tokens = 0
        self.finish_reason: str | None = None
        self.stop_reason: int | str | None = None
        self.scheduled = False
        self.last_token_ts = 0.0
        self._params = params
        self._detokenizer = detokenizer
        self._token_text = token_text
        stops = params.stop_strings if detokenizer is not None else []
        self._stop = StopMatcher(stops, params.include_stop_str_in_output) if stops else None
        self._cumulative_logprob: float | None = None if params.logprobs is None and not params.logprob_token_ids else 0.0
        self.changed = False
        self._new_text: list[str] = []
        self._new_token_ids: list[int] = []
        self._new_logprobs = self._no_logprobs()
        self._all_text = ""
        self._all_token_ids: list[int] = []
        # Of deltas, which their consumer need not keep; 4 bytes each.
        self._taken_token_ids = array("i")
        self._all_logprobs = self._no_logprobs()

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    @property
    def num_new_tokens(self) -> int:
        return len(self._new_token_ids)

    @property
    def token_ids(self) -> list[int]:
        """All so far, whoever has taken them."""
        return [*self._taken_token_ids, *self._all_token_ids, *self._new_token_ids]

    def apply(self, update: RequestUpdate) -> str | None:
        """Take in what a step brought.

        Returns:
            The stop string found in the text, if any: the sequence is finished then, and the core must be told.
        """
        reason = update.finish_reason
        ended_by_token = reason is FinishReason.STOP and not self._params.include_stop_str_in_output
        num_kept, stop = self._add_text(update.new_token_ids, ended_by_token)
        self._add_tokens(update, num_kept)
        if stop is not None:
            self.finish("stop", stop)
        elif reason is not None:
            self._release_text()
            self.finish(str(reason), update.stop_reason)
        return stop

    @property
    def plain(self) -> bool:
        """Whether `add_token` will do for a token that comes alone: text needs no search, and it is not the first."""
        return self._stop is None and self.num_tokens > 0

    def add_token(self, token_id: int) -> None:
        """`apply` for one token and nothing else."""
        if self._detokenizer is not None:
            text = self._detokenizer.push(token_id)
            if text:
                self._new_text.append(text)
        self._new_token_ids.append(token_id)
        self.num_tokens += 1
        self.changed = True

    def finish(self, reason: str, stop_reason: int | str | None = None) -> None:
        """End the sequence; no update may follow."""
        self.finish_reason, self.stop_reason = reason, stop_reason
        self.changed = True

    def abort(self) -> None:
        """End it for an outside reason; text held back comes out."""
        self._release_text()
        self.finish("abort")

    def take(self, kind: RequestOutputKind) -> CompletionOutput:
        """What is new (DELTA), or everything so far."""
        self.changed = False
        text, token_ids = "".join(self._new_text), self._new_token_ids
        self._new_text, self._new_token_ids = [], []
        if kind is not RequestOutputKind.DELTA:
            self._all_text = text = self._all_text + text
            self._all_token_ids += token_ids
            token_ids = self._all_token_ids.copy()
        else:
            self._taken_token_ids.fromlist(token_ids)
        total = self._cumulative_logprob
        logprobs = None if total is None else self._take_logprobs(kind)
        # By position: this is made for every token of every stream.
        return CompletionOutput(self.index, text, token_ids, total, logprobs, self.finish_reason, self.stop_reason)

    def _no_logprobs(self) -> _Logprobs:
        return FlatLogprobs() if self._params.flat_logprobs else []

    def _take_logprobs(self, kind: RequestOutputKind) -> SampleLogprobs:
        new, self._new_logprobs = self._new_logprobs, self._no_logprobs()
        if kind is RequestOutputKind.DELTA:
            return new
        self._all_logprobs.extend(new)
        return self._all_logprobs[:]

    def _add_text(self, token_ids: list[int], ended_by_token: bool) -> tuple[int, str | None]:
        """Text of new tokens; stops at the token that completes a stop string.

        Returns:
            How many of the tokens belong to the output, and the stop string found.
        """
        if self._detokenizer is None:
            return len(token_ids), None
        last = len(token_ids) - 1
        for place, token_id in enumerate(token_ids):
            if ended_by_token and place == last:
                break
            text = self._detokenizer.push(token_id)
            if self._stop is None:
                if text:
                    self._new_text.append(text)
                continue
            released, stop = self._stop.feed(text, self.num_tokens + place + 1 > self._params.min_tokens)
            self._new_text.append(released)
            if stop is not None:
                return place + 1, stop
        return len(token_ids), None

    def _add_tokens(self, update: RequestUpdate, num_kept: int) -> None:
        token_ids = update.new_token_ids
        if not token_ids:
            return
        self.changed = True
        self.num_tokens += num_kept
        self._new_token_ids += token_ids if num_kept == len(token_ids) else token_ids[:num_kept]
        if update.logprobs is None or self._cumulative_logprob is None:
            return
        explicit = self._params.logprob_token_ids is not None
        extend_positions(self._new_logprobs, update.logprobs, self._token_text, explicit_ids=explicit, num_rows=num_kept)
        self._cumulative_logprob += float(update.logprobs.logprobs[:num_kept, 0].sum())

    def _release_text(self) -> None:
        """Text of an incomplete character, and what could have begun a stop string."""
        if self._detokenizer is None:
            return
        rest = self._detokenizer.flush()
        if self._stop is not None:
            released, _ = self._stop.feed(rest, check=False)
            rest = released + self._stop.flush()
        if rest:
            self._new_text.append(rest)
