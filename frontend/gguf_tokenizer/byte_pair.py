"""`gpt2` and `gemma4`: byte-pair encoding by the merges in the file."""

from __future__ import annotations

from typing import Any

from octavo.errors import ConfigError
from octavo.frontend.gguf_tokenizer.pre_tokenizers import DEFAULT, DIGIT, GPT2, PRE_TOKENIZERS, PreTokenizer
from octavo.frontend.gguf_tokenizer.special_tokens import around_prompts
from octavo.frontend.gguf_tokenizer.vocabulary import Vocabulary

_BLOCK = "\u2581"


def byte_pair(vocabulary: Vocabulary) -> dict[str, Any]:
    """The parts of tokenizer.json.

    Raises:
        ConfigError: the file has no merges.
    """
    kind = pre_tokenizer(vocabulary)
    merges = vocabulary.strings("merges")
    if not merges and vocabulary.get("merges") is None:
        raise ConfigError(f"{vocabulary.file.path}: tokenizer.ggml.merges is missing")
    unknown = vocabulary.special_id("unknown")
    add_bos = kind.forces_bos or vocabulary.flag("add_bos_token", kind.add_bos)
    return {
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": _BLOCK} if kind.spaces_as_blocks else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _steps(kind)},
        "post_processor": around_prompts(
            vocabulary, vocabulary.tokens, ("bos", add_bos), ("eos", vocabulary.flag("add_eos_token", False))
        ),
        "decoder": _decoder(kind),
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(vocabulary.tokens)},
            "merges": known_merges(vocabulary, merges),
            # Without one, what has no token would vanish and its neighbours merge.
            "unk_token": None if kind.byte_level or unknown is None else vocabulary.tokens[unknown],
            "fuse_unk": False,
            "byte_fallback": not kind.byte_level,
            "ignore_merges": vocabulary.flag("ignore_merges", kind.ignore_merges),
        },
    }


def pre_tokenizer(vocabulary: Vocabulary) -> PreTokenizer:
    """What the file's `pre` stands for."""
    if vocabulary.model == "gemma4":
        return PRE_TOKENIZERS["gemma4"]
    return PRE_TOKENIZERS.get(vocabulary.pre or "default", DEFAULT)


def known_merges(vocabulary: Vocabulary, merges: list[str]) -> list[list[str]]:
    """Merges as pairs, best first, without those of spellings that are no tokens."""
    known = frozenset(vocabulary.tokens)
    # A token may be or begin with a space: the border is the first one behind the first character.
    pairs = [[merge[:at], merge[at + 1 :]] for merge in merges if (at := merge.find(" ", 1)) > 0]
    return [pair for pair in pairs if pair[0] in known and pair[1] in known and pair[0] + pair[1] in known]


def _steps(kind: PreTokenizer) -> list[dict[str, Any]]:
    patterns = list(kind.patterns)
    # The library has these two ways built in, which is faster than asking its regular expressions twice.
    gpt2 = kind.byte_level and patterns[-1] == GPT2
    steps = [_step(pattern) for pattern in (patterns[:-1] if gpt2 else patterns)]
    if kind.byte_level:
        steps.append({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": gpt2})
    return steps


def _step(pattern: str) -> dict[str, Any]:
    if pattern == DIGIT:
        return {"type": "Digits", "individual_digits": True}
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _decoder(kind: PreTokenizer) -> dict[str, Any]:
    if kind.byte_level:
        return {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return blocks_decoder(strip=False)


def blocks_decoder(*, strip: bool) -> dict[str, Any]:
    """U+2581 is a space, <0x0A> a byte; `strip` takes the first space off a text."""
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": _BLOCK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if strip:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}
