"""What the engine asks of a model: the loader, the cache planner, the runner and the head. Any class that keeps it can be served."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch

from octavo.cache_groups import CacheSpec
from octavo.executor.attention import AttentionMetadata, KVCache, RowInputs
from octavo.executor.layers.module import Module
from octavo.executor.models.build import Build
from octavo.executor.sampler import Head

HfConfig = dict[str, Any]
"""config.json, or its text_config where it has one; a key that is not there raises ConfigError, `get` gives None."""


class Model(Head, Protocol):
    """A model that generates text. Life: built (memory uninitialized), parts filled by the loader and finished, run.

    T tokens, H hidden size, R rows of the head, V vocabulary.

    Attributes:
        cache_specs: what each layer that has a cache keeps; the order is that of `kv_caches`.
        row_inputs: names of what requests may bring beside tokens; `attn.row_inputs` has them.
        unused_weights: beginnings of the names of tensors that checkpoints may hold and the model does not use.
    """

    cache_specs: Sequence[CacheSpec]
    row_inputs: Sequence[str]
    unused_weights: Sequence[str]

    def parts(self) -> Iterator[Module]:
        """What the loader fills and finishes, one after the other: memory peaks at the model and one part."""

    def forward(
        self, input_ids: torch.Tensor, positions: torch.Tensor, kv_caches: list[KVCache], attn: AttentionMetadata
    ) -> torch.Tensor:
        """Hidden states [T, H] after the final norm, for ids int64 [T] at positions int64 [T]; keys and values are cached."""

    def check_inputs(self, inputs: RowInputs, num_tokens: int) -> None:
        """Raises: ValueError: what a request of so many tokens brings does not fit the model; says what is allowed."""

    def activation_bytes(self, num_tokens: int) -> int:
        """Memory that a step of so many tokens takes beside weights and caches, at most: what the cache must leave free."""

    def forget_caches(self) -> None:
        """Let go of what refers to the caches of the last step: they are given back."""

    def profile(self, enable: bool) -> bool:
        """Measure the ops inside `forward` from now on; whether that can be done, which is known after the first forward."""

    def timings(self) -> dict[str, float]:
        """Seconds spent in each op of `forward` since the last call, by name; empty unless profiled."""


class Page(Protocol):
    """A family's page: called with a model's configuration, it builds the model."""

    def __call__(self, config: HfConfig, build: Build, /) -> Model:
        """A model with uninitialized weights. Raises: ConfigError: names the key that cannot be."""
