"""Short names of small models, for command lines: `smollm2` for HuggingFaceTB/SmolLM2-135M-Instruct."""

from __future__ import annotations

import os

from octavo.suggestions import did_you_mean

SHORT_NAMES = {
    "smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "smollm2:135m": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "smollm2:360m": "HuggingFaceTB/SmolLM2-360M-Instruct",
    "smollm2:1.7b": "HuggingFaceTB/SmolLM2-1.7B-Instruct",
    "smollm3": "HuggingFaceTB/SmolLM3-3B",
    "qwen2.5": "Qwen/Qwen2.5-0.5B-Instruct",
    "qwen2.5:0.5b": "Qwen/Qwen2.5-0.5B-Instruct",
    "qwen2.5:1.5b": "Qwen/Qwen2.5-1.5B-Instruct",
    "qwen3": "Qwen/Qwen3-0.6B",
    "qwen3:0.6b": "Qwen/Qwen3-0.6B",
    "qwen3:1.7b": "Qwen/Qwen3-1.7B",
    "llama3.2": "meta-llama/Llama-3.2-1B-Instruct",
    "llama3.2:1b": "meta-llama/Llama-3.2-1B-Instruct",
    "gemma3": "google/gemma-3-270m-it",
    "gemma3:270m": "google/gemma-3-270m-it",
    "gemma3:1b": "google/gemma-3-1b-it",
    "tinyllama": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    "phi4-mini": "microsoft/Phi-4-mini-instruct",
    "olmo2": "allenai/OLMo-2-0425-1B-Instruct",
}
"""All of them of architectures that are served here; the name without a size is the smallest."""


def full_name(name: str) -> str:
    """What a short name stands for; other names, and those of files and folders that are there, stay as they are."""
    return name if os.path.exists(name) else SHORT_NAMES.get(name.lower(), name)


def meant_short_name(name: str) -> str:
    """` (did you mean smollm2?)` for a name that can be a misspelled short one, else ""."""
    return "" if "/" in name or name.lower() in SHORT_NAMES else did_you_mean(name.lower(), SHORT_NAMES)


def names_of(name: str) -> tuple[str, ...]:
    """Names that a model started as `name` answers to: the full one, and the one it was started by."""
    return tuple(dict.fromkeys((full_name(name), name)))


def short_name_of(full: str) -> str:
    """The shortest of a model's short names, "" when it has none."""
    return min((short for short, name in SHORT_NAMES.items() if name == full), key=len, default="")
