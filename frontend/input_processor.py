"""From what a caller says to what the core works with: prompt and SamplingParams in, token ids and SamplingSpec out.

Everything is checked here; nothing that could upset the core passes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from octavo.config import EngineConfig, ModelConfig
from octavo.errors import ValidationError
from octavo.frontend.text_checks import check_prompt_length, check_text_length, check_unicode
from octavo.frontend.tokenizer import Tokenizer
from octavo.frontend.tokenizer_pool import TokenizerPool
from octavo.inputs import PromptType
from octavo.not_served import PROMPT_KEYS, refusal
from octavo.params import MAX_BAD_WORDS, SamplingParams
from octavo.sources.generation_config import sampling_defaults
from octavo.structured_outputs import StructuredOutputsParams
from octavo.wire.messages import Vocabulary
from octavo.wire.pooling_spec import PoolingSpec
from octavo.wire.sampling_spec import SamplingSpec

MAX_BAD_WORD_SEQUENCES = MAX_BAD_WORDS
_GRAMMAR_SIZE = 1_000_000
"""Work on a grammar is never for the event loop."""


def default_sampling_fields(config: EngineConfig) -> dict[str, Any]:
    """Sampling defaults of the model (generation_config.json and its overrides), by SamplingParams field."""
    return sampling_defaults(config.model.generation_config)


def default_sampling_params(config: EngineConfig) -> SamplingParams:
    """SamplingParams with the model's defaults.

    Raises:
        ValidationError: the generation config holds a value that is not allowed.
    """
    return SamplingParams(**default_sampling_fields(config))


@dataclass(slots=True)
class ProcessedInput:
    """A prompt and its parameters, ready for the core.

    Attributes:
        prompt: the text, None when the caller gave ids only.
        spec: of the first sequence; the others differ in their seed.
        pooling: set where hidden states are pooled, and nothing is sampled.
        inputs: what the model reads beside tokens, by name.
    """

    prompt: str | None
    prompt_token_ids: list[int]
    params: SamplingParams
    spec: SamplingSpec
    cache_salt: str | None
    pooling: PoolingSpec | None = None
    inputs: dict[str, np.ndarray] = field(default_factory=dict)


class InputProcessor:
    """Checks and converts requests for one model.

    Args:
        config: the engine's.
        tokenizer: None with skip_tokenizer_init: prompts must be token ids then.
        max_model_len: as the core reports it; may be less than configured.
        row_inputs: names of what requests may bring beside tokens.

    Attributes:
        texts: the way from text to token ids and back, for everybody.
        vocabulary: what the core must know before a request with a grammar; made with the first one.
    """

    def __init__(
        self, config: EngineConfig, tokenizer: Tokenizer | None, max_model_len: int, row_inputs: Sequence[str] = ()
    ) -> None:
        self._model = config.model
        self.texts = TokenizerPool(tokenizer, max_model_len)
        self.max_model_len = max_model_len
        self._eos_token_ids = _eos_token_ids(config.model, tokenizer)
        self._row_inputs = tuple(row_inputs)
        self.vocabulary: Vocabulary | None = None

    async def process(self, prompt: PromptType, params: SamplingParams) -> ProcessedInput:
        """Check and convert one request.

        Raises:
            ValidationError: naming what is wrong.
        """
        if not isinstance(params, SamplingParams):
            raise ValidationError(
                f"sampling_params must be SamplingParams, got {type(params).__name__}.", parameter="sampling_params"
            )
        parts = prompt_parts(prompt)
        token_ids = parts.token_ids
        if token_ids is None:
            token_ids = await self.texts.encode(parts.text or "")
        self._check_prompt(token_ids)
        bad_token_sequences = await self._bad_token_sequences(params.bad_words)
        spec = await self.texts.run(_size_of_lists(params), self._spec, params, len(token_ids), bad_token_sequences)
        if params.structured_outputs is not None:
            spec = await self.texts.run(_GRAMMAR_SIZE, self._constrained, spec, params.structured_outputs)
        return ProcessedInput(parts.text, token_ids, params, spec, parts.cache_salt)

    async def tokenize(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text that is to be a prompt.

        Raises:
            ValidationError: there is no tokenizer, or the text cannot fit into the model's context.
        """
        return await self.texts.encode(text, add_special_tokens=add_special_tokens)

    def close(self) -> None:
        """End the threads; what they are working on is not waited for."""
        self.texts.close()

    def _check_prompt(self, token_ids: list[int]) -> None:
        if not token_ids:
            raise ValidationError("The prompt must not be empty.", parameter="prompt", value=token_ids)
        check_prompt_length(len(token_ids), self.max_model_len)
        self.check_ids("prompt", token_ids)

    def check_whole_prompt(self, token_ids: list[int]) -> None:
        """Refuse a prompt that cannot be pooled: nothing follows it, so it may fill the context.

        Raises:
            ValidationError: naming the prompt.
        """
        if not token_ids:
            raise ValidationError("The prompt must not be empty.", parameter="prompt", value=token_ids)
        check_text_length(len(token_ids), self.max_model_len)
        self.check_ids("prompt", token_ids)

    def check_inputs(self, names: Iterable[str]) -> None:
        """Refuse what the model does not read beside tokens.

        Raises:
            ValidationError: naming it, and what there is.
        """
        unknown = next((name for name in names if name not in self._row_inputs), None)
        if unknown is None:
            return
        known = f"it reads {', '.join(self._row_inputs)}" if self._row_inputs else "the model takes text only"
        raise ValidationError(f"multi_modal_data holds {unknown!r:.80}; {known}.", parameter="multi_modal_data", value=unknown)

    def reads(self, name: str) -> bool:
        """Whether the model reads this beside tokens."""
        return name in self._row_inputs

    def check_ids(self, parameter: str, token_ids: Sequence[Any]) -> None:
        """Refuse what is no id of the model's vocabulary.

        Raises:
            ValidationError: naming `parameter`.
        """
        if token_ids:
            _check_ids(parameter, token_ids, self._model.vocab_size)

    def _spec(
        self, params: SamplingParams, num_prompt_tokens: int, bad_token_sequences: tuple[tuple[int, ...], ...]
    ) -> SamplingSpec:
        self._check_ids_of(params)
        self._check_something_is_allowed(params, bad_token_sequences)
        room = self.max_model_len - num_prompt_tokens
        max_tokens = room if params.max_tokens is None else min(params.max_tokens, room)
        wants_prompt_logprobs = params.prompt_logprobs is not None
        skip_cache = params.skip_reading_prefix_cache
        return SamplingSpec(
            max_tokens=int(max_tokens),
            seed=_drawn_seed() if params.seed is None else int(params.seed % 2**64),
            temperature=float(params.temperature),
            top_p=float(params.top_p),
            top_k=int(params.top_k) if params.top_k < self._model.vocab_size else 0,
            min_p=float(params.min_p),
            presence_penalty=float(params.presence_penalty),
            frequency_penalty=float(params.frequency_penalty),
            repetition_penalty=float(params.repetition_penalty),
            min_tokens=int(min(params.min_tokens, max_tokens)),
            eos_token_ids=() if params.ignore_eos else self._eos_token_ids,
            stop_token_ids=tuple(params.stop_token_ids or ()),
            logit_bias={token_id: float(bias) for token_id, bias in (params.logit_bias or {}).items()} or None,
            allowed_token_ids=None if params.allowed_token_ids is None else tuple(params.allowed_token_ids),
            bad_token_sequences=bad_token_sequences,
            logprobs=self._num_logprobs(params),
            prompt_logprobs=self._resolved_logprobs("prompt", params.prompt_logprobs),
            logprob_token_ids=None if params.logprob_token_ids is None else tuple(params.logprob_token_ids),
            skip_reading_prefix_cache=wants_prompt_logprobs if skip_cache is None else skip_cache,
            repetition_detection=params.repetition_detection,
        )

    def _constrained(self, spec: SamplingSpec, wanted: StructuredOutputsParams) -> SamplingSpec:
        from octavo.frontend.grammars import grammar_of, vocabulary_of

        tokenizer = self.texts.need_tokenizer("structured_outputs")
        grammar = grammar_of(wanted)
        if self.vocabulary is None:
            self.vocabulary = vocabulary_of(tokenizer, self._eos_token_ids, self._model.vocab_size)
        return msgspec.structs.replace(spec, grammar=grammar)

    def _check_ids_of(self, params: SamplingParams) -> None:
        for name in ("stop_token_ids", "allowed_token_ids", "logprob_token_ids", "logit_bias"):
            ids = getattr(params, name)
            if ids:
                _check_ids(name, list(ids), self._model.vocab_size)
        if params.stop:
            self.texts.need_tokenizer("stop")

    def _check_something_is_allowed(self, params: SamplingParams, bad_sequences: tuple[tuple[int, ...], ...]) -> None:
        """Refuse parameters that together forbid every token: there would be nothing to choose from.

        A word of several tokens forbids its last one in some places only. Where all that is left could be forbidden by such
        words, it could be so in every place, and is refused, too.
        """
        allowed = params.allowed_token_ids
        held_back: set[int] = set()
        if params.min_tokens:
            held_back.update(params.stop_token_ids or (), () if params.ignore_eos else self._eos_token_ids)
        num_at_hand = self._model.vocab_size if allowed is None else len(allowed)
        if len(held_back) + len(bad_sequences) < num_at_hand:
            return
        at_hand = set(range(self._model.vocab_size) if allowed is None else allowed)
        bad = {sequence[-1] for sequence in bad_sequences if at_hand.issuperset(sequence)}
        if at_hand <= held_back | bad:
            names = [name for name in ("min_tokens", "bad_words") if getattr(params, name)]
            field = "stop_token_ids" if allowed is None else "allowed_token_ids"
            message = f"{field} and {' and '.join(names)} together forbid every token; one at least must be left to choose."
            raise ValidationError(message, parameter=field, value=allowed)

    def _num_logprobs(self, params: SamplingParams) -> int | None:
        """With logprob_token_ids, any `logprobs` only says that they are wanted."""
        ids = params.logprob_token_ids
        return self._resolved_logprobs("sample", params.logprobs) if ids is None else len(ids)

    def _resolved_logprobs(self, kind: str, wanted: int | None) -> int | None:
        """-1 means the vocabulary; at most max_logprobs."""
        if wanted is None:
            return None
        vocab_size = self._model.vocab_size
        allowed = vocab_size if self._model.max_logprobs == -1 else self._model.max_logprobs
        number = vocab_size if wanted == -1 else wanted
        if number > allowed:
            parameter = "logprobs" if kind == "sample" else "prompt_logprobs"
            message = f"Requested {kind} logprobs of {number}, which is greater than max allowed: {allowed}"
            raise ValidationError(message, parameter=parameter, value=wanted)
        return int(min(number, vocab_size))

    async def _bad_token_sequences(self, words: Sequence[str] | None) -> tuple[tuple[int, ...], ...]:
        """Each word as it is written at the start of a text and after a space."""
        if not words:
            return ()
        spellings = [prefix + word.lstrip() for word in words for prefix in ("", " ")]
        encoded = await self.texts.encode_all(spellings, add_special_tokens=False, parameter="bad_words", as_prompt=False)
        sequences = {tuple(ids): None for ids in encoded if ids}
        if len(sequences) > MAX_BAD_WORD_SEQUENCES:
            raise _too_many_bad_words(len(sequences))
        for sequence in sequences:
            _check_ids("bad_words", list(sequence), self._model.vocab_size)
        return tuple(sequences)


@dataclass(slots=True)
class PromptParts:
    """A prompt of any form, taken apart."""

    text: str | None
    token_ids: list[int] | None
    cache_salt: str | None = None


def prompt_parts(prompt: Any) -> PromptParts:
    """What a prompt of any form holds, its types checked."""
    if isinstance(prompt, str):
        return PromptParts(prompt, None)
    if isinstance(prompt, list | tuple):
        return PromptParts(None, list(prompt))
    if not isinstance(prompt, Mapping):
        raise ValidationError(
            f"A prompt must be a string, a list of token ids, or a dict with 'prompt' or 'prompt_token_ids', "
            f"got {type(prompt).__name__}.",
            parameter="prompt",
        )
    unknown = set(prompt) - {"prompt", "prompt_token_ids", "cache_salt"}
    for key in unknown & PROMPT_KEYS.keys():
        if prompt[key] is not None:
            raise refusal(key, PROMPT_KEYS)
        unknown.remove(key)
    if unknown:
        raise ValidationError(f"Unknown keys in the prompt: {', '.join(sorted(map(str, unknown)))}.", parameter="prompt")
    text, ids, salt = prompt.get("prompt"), prompt.get("prompt_token_ids"), prompt.get("cache_salt")
    if text is None and ids is None:
        raise ValidationError("A prompt dict must have 'prompt' or 'prompt_token_ids'.", parameter="prompt")
    _check_type("prompt", text, str)
    _check_type("prompt_token_ids", ids, list | tuple)
    _check_type("cache_salt", salt, str)
    if salt == "":
        raise ValidationError("cache_salt must not be empty.", parameter="cache_salt", value=salt)
    if salt is not None:
        check_unicode("cache_salt", salt)
    return PromptParts(text, None if ids is None else list(ids), None if salt is None else f"{salt}")


def _check_type(name: str, value: Any, kind: Any) -> None:
    if value is not None and not isinstance(value, kind):
        raise ValidationError(f"{name} has the wrong type: {type(value).__name__}.", parameter=name)


def _check_ids(name: str, ids: Sequence[Any], vocab_size: int) -> None:
    if set(map(type, ids)) - {int}:
        raise ValidationError(f"{name} must hold token ids (integers).", parameter=name)
    if min(ids) < 0 or max(ids) >= vocab_size:
        wrong = next(i for i in ids if not 0 <= i < vocab_size)
        message = f"{name} holds the token id {wrong}, which is out of the vocabulary (0 to {vocab_size - 1})."
        raise ValidationError(message, parameter=name, value=wrong)


def _size_of_lists(params: SamplingParams) -> int:
    lists = (params.stop_token_ids, params.allowed_token_ids, params.logprob_token_ids, params.logit_bias)
    return sum(map(len, filter(None, lists)))


def _too_many_bad_words(number: int) -> ValidationError:
    message = f"bad_words may come to at most {MAX_BAD_WORD_SEQUENCES} token sequences, got {number}."
    return ValidationError(message, parameter="bad_words", value=number)


def _eos_token_ids(model: ModelConfig, tokenizer: Tokenizer | None) -> tuple[int, ...]:
    """The model's, and the tokenizer's own: chat models often name their turn's end only there."""
    ids = list(model.eos_token_ids)
    if tokenizer is not None and tokenizer.eos_token_id is not None and tokenizer.eos_token_id < model.vocab_size:
        ids.append(tokenizer.eos_token_id)
    return tuple(dict.fromkeys(i for i in ids if 0 <= i < model.vocab_size))


def _drawn_seed() -> int:
    return int.from_bytes(os.urandom(8), "little")
