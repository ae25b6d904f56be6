"""How a request samples, as the core and the executor need it."""

from __future__ import annotations

import msgspec

from octavo.params import RepetitionDetection


class SamplingSpec(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """The text-free, resolved form of `SamplingParams` that core and executor work with.

    The frontend fills it in (`frontend/input_processor.py`): every id is within the vocabulary, every default is
    applied. New fields go last: the wire carries positions, not names.
    """

    max_tokens: int
    """Output tokens at most; prompt + max_tokens never exceeds max_model_len."""
    seed: int
    """0..2**64-1. Drawn by the frontend when the caller gave none, so that a request can be replayed."""
    temperature: float = 1.0
    """0.0 = greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 = off."""
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    min_tokens: int = 0
    eos_token_ids: tuple[int, ...] = ()
    """End the output with stop_reason None. Empty with ignore_eos."""
    stop_token_ids: tuple[int, ...] = ()
    """End the output with the id as stop_reason."""
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: tuple[int, ...] | None = None
    bad_token_sequences: tuple[tuple[int, ...], ...] = ()
    """The last id of a sequence is forbidden right after the others."""
    logprobs: int | None = None
    """Top k per sampled token; 0 = only the sampled one; vocab_size when the caller said -1."""
    prompt_logprobs: int | None = None
    logprob_token_ids: tuple[int, ...] | None = None
    """Instead of the top k, exactly these ids."""
    skip_reading_prefix_cache: bool = False
    repetition_detection: RepetitionDetection | None = None
    grammar: str | None = None
    """What the output keeps to, in llguidance's form; the executor sees its masks only."""

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0
