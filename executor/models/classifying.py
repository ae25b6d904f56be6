"""Decoders that classify: a layer over the last token's hidden state, or the difference of two words in the head."""

from __future__ import annotations

from typing import Any, cast

import torch

from octavo.errors import ConfigError
from octavo.executor.layers.classifier import VectorLinear
from octavo.executor.models.build import Build
from octavo.executor.models.causal_lm import CausalLM
from octavo.executor.models.contract import HfConfig, Page
from octavo.kernels import ops
from octavo.sources.decoders import FROM_TOKENS


def classifying(page: Page) -> Page:
    """The page of a decoder's classifier.

    Raises:
        ConfigError: the page is none of a `CausalLM`.
    """
    if not (isinstance(page, type) and issubclass(page, CausalLM)):
        raise ConfigError("only decoders that come with Octavo can classify")
    decoder: Any = page

    class Classifying(decoder):
        """The decoder, and its classifier."""

        def __init__(self, config: HfConfig, build: Build) -> None:
            super().__init__(config, build)
            device, words = build.place.device, config.get(FROM_TOKENS)
            self.words = None if words is None else _word_ids(config)
            if self.words is None:
                self.score = VectorLinear("score", self.hidden_size, config["num_labels"], device, bias=False)
            self._difference: torch.Tensor | None = None

        def classify(self, vectors: torch.Tensor) -> torch.Tensor:
            """See `Classifier.classify`."""
            if self.words is None:
                return self.score(vectors)
            if self._difference is None:
                rows = ops.embedding(torch.tensor(self.words), self.embedding.table).float()
                self._difference = rows[1] - rows[0]
            return (vectors * self._difference).sum(1, keepdim=True)

    return cast("Page", Classifying)


def _word_ids(config: HfConfig) -> list[int]:
    """Ids of the word for "no" and the one for "yes", which the frontend has looked up."""
    ids = config.get(FROM_TOKENS + "_ids")
    if not isinstance(ids, list) or len(ids) != 2:
        raise ConfigError(f"{FROM_TOKENS} must name two words of the tokenizer, got {config[FROM_TOKENS]!r}")
    return ids
