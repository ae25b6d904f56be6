"""Granite 3: https://github.com/ibm-granite/granite-3.0-language-models."""

from __future__ import annotations

from octavo.executor.layers.decoder_layer import DecoderLayer
from octavo.executor.models.causal_lm import given
from octavo.executor.models.llama import Llama


class Granite(Llama):
    """Granite 3: Llama with factors: of embeddings, of attention's scores, of what blocks add, of logits."""

    @property
    def embedding_scale(self) -> float:
        """Factor of embeddings."""
        return float(given(self.config, "embedding_multiplier", 1.0))

    @property
    def attention_scale(self) -> float:
        """Factor of attention's scores."""
        return float(given(self.config, "attention_multiplier", 1.0))

    @property
    def logit_scale(self) -> float:
        """Factor of logits."""
        return 1.0 / float(given(self.config, "logits_scaling", 1.0))

    def layer(self, name: str, index: int) -> DecoderLayer:
        """One layer."""
        layer = super().layer(name, index)
        layer.scale = given(self.config, "residual_multiplier", 1.0)
        return layer
