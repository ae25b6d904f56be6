"""One request with n > 1 becomes n sequences in the core.

They are sent a window at a time: the core never holds more of one request's sequences than it can run at once, so that
n = 16384 costs neither the wire nor the queue 16384 prompts.
"""

from __future__ import annotations

import msgspec

from octavo.frontend.input_processor import ProcessedInput
from octavo.wire.messages import EngineRequest
from octavo.wire.sampling_spec import SamplingSpec

_MASK = 2**64 - 1


class FanOut:
    """Makes the core's requests for one caller's request, in order of index."""

    __slots__ = ("_arrival_time", "_internal_id", "_next_index", "_priority", "processed")

    def __init__(self, internal_id: str, processed: ProcessedInput, arrival_time: float, priority: int) -> None:
        self.processed = processed
        self._internal_id = internal_id
        self._arrival_time = arrival_time
        self._priority = priority
        self._next_index = 0

    @property
    def exhausted(self) -> bool:
        """All n have been made."""
        return self._next_index >= self.processed.params.n

    def next(self) -> tuple[int, EngineRequest]:
        """The next sequence's index and its request for the core."""
        index = self._next_index
        self._next_index += 1
        request = EngineRequest(
            request_id=self._internal_id if self.processed.params.n == 1 else f"{self._internal_id}-{index}",
            prompt_token_ids=self.processed.prompt_token_ids,
            sampling=self._spec(index),
            arrival_time=self._arrival_time,
            priority=self._priority,
            cache_salt=self.processed.cache_salt,
            pooling=self.processed.pooling,
            inputs=self.processed.inputs,
        )
        return index, request

    def _spec(self, index: int) -> SamplingSpec:
        """Sequence 0 is what n = 1 would give; the others get seeds of their own and no prompt logprobs."""
        spec = self.processed.spec
        if index == 0:
            return spec
        skip_cache = bool(self.processed.params.skip_reading_prefix_cache)
        return msgspec.structs.replace(
            spec, seed=child_seed(spec.seed, index), prompt_logprobs=None, skip_reading_prefix_cache=skip_cache
        )


def child_seed(seed: int, index: int) -> int:
    """Seed of sequence `index`: SplitMix64's output number `index`, so that neighbouring seeds share no sequences."""
    x = (seed + index * 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
