"""Prompts for a benchmark: which texts or token ids to send and how many tokens to ask for.

Every data set is a function of its options, a tokenizer and a seed; the same seed gives the same requests.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.config.option import option
from octavo.errors import ConfigError
from octavo.tools.tokenization import BenchTokenizer

ALIGN_ROUNDS = 12
SHAREGPT_MAX_PROMPT = 1024
SHAREGPT_MAX_TOTAL = 2048
SHAREGPT_MIN = 4


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """One request of a data set.

    Attributes:
        prompt: text, or None when only the ids are known.
        token_ids: the prompt's tokens, without special tokens that a server may add.
        output_len: tokens to generate.
    """

    prompt: str | None
    token_ids: list[int]
    output_len: int

    @property
    def prompt_len(self) -> int:
        return len(self.token_ids)


@dataclass
class DatasetOptions:
    """Which prompts, how many, how long."""

    dataset_name: str = option(
        "random", "Where prompts come from.", choices=("random", "sharegpt", "prefix_repetition", "custom")
    )
    dataset_path: str | None = option(None, "File of the data set (sharegpt: JSON, custom: JSON lines with a prompt each).")
    num_prompts: int = option(1000, "Requests to send.")
    input_len: int | None = option(None, "Prompt tokens; the same as the data set's own option.")
    output_len: int | None = option(None, "Output tokens; the same as the data set's own option.")
    random_input_len: int = option(1024, "random: prompt tokens, the prefix not counted.")
    random_output_len: int = option(128, "random: output tokens.")
    random_range_ratio: float = option(0.0, "random: lengths vary evenly within this share of both lengths, [0, 1).")
    random_prefix_len: int = option(0, "random: tokens at the beginning that all prompts share.")
    prefix_repetition_prefix_len: int = option(256, "prefix_repetition: tokens of a prefix.")
    prefix_repetition_suffix_len: int = option(256, "prefix_repetition: tokens after the prefix, different in each prompt.")
    prefix_repetition_num_prefixes: int = option(10, "prefix_repetition: different prefixes.")
    prefix_repetition_output_len: int = option(128, "prefix_repetition: output tokens.")
    sharegpt_output_len: int | None = option(None, "sharegpt: output tokens; unset = as long as the recorded answer.")
    custom_output_len: int = option(256, "custom: output tokens; -1 = output_tokens of each line.")
    prompt_format: str = option(
        "text", "What is sent: text (re-tokenized to the asked length), or token ids (exact).", choices=("text", "ids")
    )

    def check(self) -> None:
        """Raise ConfigError naming the flag whose value cannot work."""
        for name in ("num_prompts", "random_output_len", "prefix_repetition_num_prefixes", "prefix_repetition_output_len"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
        for name in ("random_input_len", "random_prefix_len", "prefix_repetition_prefix_len", "prefix_repetition_suffix_len"):
            if getattr(self, name) < 0:
                raise ConfigError(f"--{name.replace('_', '-')} must be at least 0, got {getattr(self, name)}")
        if not 0.0 <= self.random_range_ratio < 1.0:
            raise ConfigError(f"--random-range-ratio must be in [0, 1), got {self.random_range_ratio}")
        if self.dataset_name in ("sharegpt", "custom") and not self.dataset_path:
            raise ConfigError(f"--dataset-name {self.dataset_name} needs --dataset-path")

    @property
    def ignore_eos(self) -> bool:
        """Whether outputs must have the asked length: prompts of random tokens have no natural end."""
        return self.dataset_name in ("random", "prefix_repetition")


def load_requests(options: DatasetOptions, tokenizer: BenchTokenizer, seed: int) -> list[BenchRequest]:
    """The requests of a data set.

    Raises:
        ConfigError: the options do not fit, or the file has nothing to offer.
    """
    options.check()
    makers: dict[str, Callable[[DatasetOptions, BenchTokenizer, random.Random], list[BenchRequest]]] = {
        "random": random_requests,
        "sharegpt": sharegpt_requests,
        "prefix_repetition": prefix_repetition_requests,
        "custom": custom_requests,
    }
    return makers[options.dataset_name](options, tokenizer, random.Random(seed))  # noqa: S311


def random_requests(options: DatasetOptions, tokenizer: BenchTokenizer, rng: random.Random) -> list[BenchRequest]:
    """Random tokens behind an optional common prefix."""
    input_len = options.random_input_len if options.input_len is None else options.input_len
    output_len = options.random_output_len if options.output_len is None else options.output_len
    prefix = tokenizer.random_ids(rng, options.random_prefix_len)
    requests = []
    for _ in range(options.num_prompts):
        length = _varied(rng, input_len, options.random_range_ratio)
        ids = prefix + tokenizer.random_ids(rng, max(length, 0 if prefix else 1))
        requests.append(_request(options, tokenizer, rng, ids, max(1, _varied(rng, output_len, options.random_range_ratio))))
    return requests


def prefix_repetition_requests(options: DatasetOptions, tokenizer: BenchTokenizer, rng: random.Random) -> list[BenchRequest]:
    """A few prefixes, each shared by many prompts; in random order."""
    suffix_len = options.prefix_repetition_suffix_len if options.input_len is None else options.input_len
    output_len = options.prefix_repetition_output_len if options.output_len is None else options.output_len
    prefixes = [
        tokenizer.random_ids(rng, options.prefix_repetition_prefix_len) for _ in range(options.prefix_repetition_num_prefixes)
    ]
    requests = []
    for index in range(options.num_prompts):
        ids = prefixes[index % len(prefixes)] + tokenizer.random_ids(rng, suffix_len)
        requests.append(_request(options, tokenizer, rng, ids or tokenizer.random_ids(rng, 1), output_len))
    rng.shuffle(requests)
    return requests


def sharegpt_requests(options: DatasetOptions, tokenizer: BenchTokenizer, rng: random.Random) -> list[BenchRequest]:
    """First turns of recorded conversations, the recorded answer's length as the output's."""
    conversations = _read_json_list(options.dataset_path or "")
    pairs = [
        (turns[0].get("value", ""), turns[1].get("value", ""))
        for turns in (entry.get("conversations", entry.get("conversation", [])) for entry in conversations)
        if len(turns) >= 2
    ]
    rng.shuffle(pairs)
    fixed = options.sharegpt_output_len if options.output_len is None else options.output_len
    requests: list[BenchRequest] = []
    for prompt, answer in pairs:
        if len(requests) == options.num_prompts:
            break
        ids = tokenizer.encode(prompt)
        output_len = fixed or len(tokenizer.encode(answer))
        if _usable(len(ids), output_len, fixed is not None):
            requests.append(BenchRequest(prompt, ids, output_len))
    return _filled_up(requests, options, rng)


def custom_requests(options: DatasetOptions, tokenizer: BenchTokenizer, rng: random.Random) -> list[BenchRequest]:
    """Prompts from a file of JSON lines: {"prompt": "...", "output_tokens": 64}."""
    fixed = options.custom_output_len if options.output_len is None else options.output_len
    requests = []
    for number, line in enumerate(_read_text(options.dataset_path or "").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            prompt = entry["prompt"]
            output_len = fixed if fixed != -1 else int(entry["output_tokens"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{options.dataset_path}, line {number}: {type(error).__name__}: {error}") from None
        requests.append(BenchRequest(prompt, tokenizer.encode(prompt), output_len))
    rng.shuffle(requests)
    return _filled_up(requests[: options.num_prompts], options, rng)


def _varied(rng: random.Random, length: int, ratio: float) -> int:
    return rng.randint(int(length * (1 - ratio)), int(length * (1 + ratio))) if ratio else length


def _request(
    options: DatasetOptions, tokenizer: BenchTokenizer, rng: random.Random, ids: list[int], output_len: int
) -> BenchRequest:
    if options.prompt_format == "ids":
        return BenchRequest(None, ids, output_len)
    text, ids = aligned(tokenizer, rng, ids)
    return BenchRequest(text, ids, output_len)


def aligned(tokenizer: BenchTokenizer, rng: random.Random, ids: list[int]) -> tuple[str, list[int]]:
    """A text near `ids` that tokenizes to exactly as many tokens, and its tokens.

    Random tokens do not survive the way through text: neighbours merge. So the text is tokenized again and what is too
    long is cut, what is too short is filled up at the end, until the length is right. When that does not settle, the
    text with the nearest length is taken and its true length reported.
    """
    target = len(ids)
    text = tokenizer.decode(ids)
    best = (text, tokenizer.encode(text))
    for _ in range(ALIGN_ROUNDS):
        if len(best[1]) == target:
            break
        ids = best[1][:target] + tokenizer.random_ids(rng, target - len(best[1]))
        text = tokenizer.decode(ids)
        again = tokenizer.encode(text)
        if abs(len(again) - target) <= abs(len(best[1]) - target):
            best = (text, again)
    return best


def _usable(prompt_len: int, output_len: int, fixed_output: bool) -> bool:
    if prompt_len < SHAREGPT_MIN or (output_len < SHAREGPT_MIN and not fixed_output):
        return False
    return prompt_len <= SHAREGPT_MAX_PROMPT and prompt_len + output_len <= SHAREGPT_MAX_TOTAL


def _filled_up(requests: list[BenchRequest], options: DatasetOptions, rng: random.Random) -> list[BenchRequest]:
    """`num_prompts` requests, some twice when the file holds fewer."""
    if not requests:
        raise ConfigError(f"{options.dataset_path} holds no usable prompt")
    return requests + rng.choices(requests, k=options.num_prompts - len(requests))


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--dataset-path: {error}") from None


def _read_json_list(path: str) -> list[Any]:
    try:
        value = json.loads(_read_text(path))
    except ValueError as error:
        raise ConfigError(f"--dataset-path: {path} is not JSON: {error}") from None
    if not isinstance(value, list):
        raise ConfigError(f"--dataset-path: {path} must hold a list of conversations")
    return value
