"""generation_config.json: which of its keys are sampling defaults here, and which are known to do nothing."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from typing import Any

from octavo.errors import ConfigError, ValidationError
from octavo.params import SamplingParams

logger = logging.getLogger(__name__)

SAMPLING_KEYS = {
    "repetition_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "max_new_tokens": "max_tokens",
    "skip_special_tokens": "skip_special_tokens",
}
"""Keys that are sampling defaults, and the fields of `SamplingParams` that they set."""

_READ_ELSEWHERE = frozenset({"eos_token_id"})
_WITHOUT_EFFECT = frozenset(
    {"bos_token_id", "pad_token_id", "do_sample", "num_return_sequences", "use_cache", "transformers_version"}
)


def sampling_defaults(generation_config: Mapping[str, Any]) -> dict[str, Any]:
    """Sampling defaults by `SamplingParams` field; keys of transformers' that mean nothing here are left out."""
    return {field: value for key, field in SAMPLING_KEYS.items() if (value := generation_config.get(key)) is not None}


def check_overrides(overrides: Mapping[str, Any]) -> None:
    """Refuse an override that would do nothing, or cannot work.

    Raises:
        ConfigError: naming the key and what is allowed.
    """
    for key in overrides:
        if key in _WITHOUT_EFFECT:
            logger.warning("--override-generation-config: %s has no effect", key)
        elif key not in SAMPLING_KEYS and key not in _READ_ELSEWHERE:
            raise ConfigError(f"--override-generation-config: unknown key {key!r}{_hint(key)}")
    try:
        SamplingParams(**sampling_defaults(overrides))
    except ValidationError as error:
        raise ConfigError(f"--override-generation-config: {error}") from None


def _hint(key: str) -> str:
    known = [*SAMPLING_KEYS, *_READ_ELSEWHERE]
    spelled = {**dict.fromkeys(known), **{field: key for key, field in SAMPLING_KEYS.items()}}
    near = difflib.get_close_matches(key, spelled, n=1)
    meant = (spelled[near[0]] or near[0]) if near else None
    return f"; did you mean {meant!r}?" if meant else f"; known are {', '.join(sorted(known))}"
