"""Who may enter: requests that can be served at all, and no more at a time than the KV cache carries.

A request that is preempted is computed again later, so taking in too many costs more than waiting. The rule here:

- A waiting request starts only when as many blocks are free as it holds at most for all its known tokens. Where everything
  is kept it gets them at once; where a window moves over the tokens it gets them chunk by chunk, and what it has not got yet
  is kept free, so that a prompt is not stuck half way for want of blocks.
- Beyond that, blocks are kept free for the growth of everyone who runs: as far as each may still grow, but at most
  `lookahead` tokens. The lookahead starts at one block, doubles with every step that preempts and halves after a quiet
  time, so a load whose outputs are short is packed tightly and one whose outputs are long settles without thrashing.
- A request already preempted twice starts only when it and everyone running can grow to their very end. With FCFS it is
  then never preempted again, for later requests give way first: no request is preempted more than twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from octavo.core.kv_cache.manager import KVCacheManager
from octavo.core.request import Request
from octavo.wire.messages import EngineRequest
from octavo.wire.sampling_spec import SamplingSpec

MAX_PREEMPTIONS = 2
QUIET_STEPS = 256


class RequestChecker:
    """The door: what a request must fulfil for the engine to be able to serve it."""

    def __init__(self, vocab_size: int, max_model_len: int, kv: KVCacheManager) -> None:
        self._vocab_size = vocab_size
        self._max_model_len = max_model_len
        self._kv = kv

    def fault(self, message: EngineRequest) -> str | None:
        """Why the request cannot be served, or None."""
        return self._prompt_fault(message) or self._sampling_fault(message.sampling)

    def _prompt_fault(self, message: EngineRequest) -> str | None:
        ids = message.prompt_token_ids
        if not ids:
            return "the prompt is empty"
        if min(ids) < 0 or max(ids) >= self._vocab_size:
            return f"the prompt holds token ids outside 0..{self._vocab_size - 1}"
        if len(ids) + (message.pooling is None) > self._max_model_len:
            return f"the prompt has {len(ids)} tokens, which leaves no room for output within {self._max_model_len}"
        if message.sampling.max_tokens < 1:
            return f"max_tokens must be at least 1, got {message.sampling.max_tokens}"
        longest = min(len(ids) + message.sampling.max_tokens, self._max_model_len)
        needed = self._kv.most_blocks(longest - 1, longest - 1)
        if needed > self._kv.num_blocks:
            return f"prompt and output of {longest} tokens need {needed} KV blocks, there are {self._kv.num_blocks}"
        return self._progress_fault(message, longest)

    def _progress_fault(self, message: EngineRequest, longest: int) -> str | None:
        """What is wrong with that which a core before this one did."""
        if not 0 <= message.num_prompt_logprobs < len(message.prompt_token_ids):
            return f"{message.num_prompt_logprobs} log-probabilities of {len(message.prompt_token_ids)} prompt tokens are there"
        ids = message.output_token_ids
        if not ids:
            return None
        if min(ids) < 0 or max(ids) >= self._vocab_size:
            return f"the output so far holds token ids outside 0..{self._vocab_size - 1}"
        if len(message.prompt_token_ids) + len(ids) >= longest:
            return f"the output so far has {len(ids)} tokens, which leaves no room for more within {longest}"
        return None

    def _sampling_fault(self, sampling: SamplingSpec) -> str | None:
        if not 0 <= sampling.seed < 2**64:
            return f"seed must be in 0..2**64-1, got {sampling.seed}"
        if not all(map(math.isfinite, (sampling.temperature, sampling.top_p, sampling.min_p, sampling.repetition_penalty))):
            return "sampling parameters must be finite"
        for name, ids in _token_id_fields(sampling):
            if any(not 0 <= token_id < self._vocab_size for token_id in ids):
                return f"{name} holds token ids outside 0..{self._vocab_size - 1}"
        for name, count in (("logprobs", sampling.logprobs), ("prompt_logprobs", sampling.prompt_logprobs)):
            if count is not None and not 0 <= count <= self._vocab_size:
                return f"{name} must be in 0..{self._vocab_size}, got {count}"
        detection = sampling.repetition_detection
        if detection is not None and detection.max_pattern_size > 0 and detection.min_count < 2:
            return f"repetition_detection needs min_count >= 2, got {detection.min_count}"
        return None


def _token_id_fields(sampling: SamplingSpec) -> Iterable[tuple[str, Iterable[int]]]:
    yield "logit_bias", sampling.logit_bias or ()
    yield "allowed_token_ids", sampling.allowed_token_ids or ()
    yield "logprob_token_ids", sampling.logprob_token_ids or ()
    for sequence in sampling.bad_token_sequences:
        yield "bad_words", sequence
    yield "stop_token_ids", (*sampling.eos_token_ids, *sampling.stop_token_ids)


class GrowthReserve:
    """How many blocks stay free for the growth of running requests when one more starts."""

    def __init__(self, kv: KVCacheManager, max_model_len: int) -> None:
        self._kv = kv
        self._block_size = kv.block_size
        self._max_lookahead = max(kv.block_size, max_model_len)
        self._quiet_steps = 0
        self.lookahead = kv.block_size
        """Tokens of growth that are provided for."""

    def blocks(self, running: list[Request], candidate: Request) -> int:
        """Blocks to keep free when `candidate` joins `running`; 0 when it would run alone."""
        if not running:
            return 0
        lookahead = self._max_lookahead if candidate.num_preemptions >= MAX_PREEMPTIONS else self.lookahead
        most_blocks, num_known = self._kv.most_blocks, len(candidate.token_ids)
        total = most_blocks(self._reach(candidate, lookahead), num_known) - most_blocks(num_known, num_known)
        for request in running:
            most = most_blocks(self._reach(request, lookahead), request.num_expected - request.num_computed)
            total += max(0, most - request.num_held)
        return total

    def after_step(self, preempted: bool) -> None:
        """Adapt: call once for every step scheduled."""
        if preempted:
            self.lookahead = min(2 * self.lookahead, self._max_lookahead)
            self._quiet_steps = 0
            return
        self._quiet_steps += 1
        if self._quiet_steps >= QUIET_STEPS:
            self.lookahead = max(self.lookahead // 2, self._block_size)
            self._quiet_steps = 0

    @staticmethod
    def _reach(request: Request, lookahead: int) -> int:
        """Tokens that will have been computed: the last one of all never is."""
        return min(request.max_total - 1, request.num_expected + lookahead)
