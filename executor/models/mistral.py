"""Mistral 7B and its successors: https://arxiv.org/abs/2310.06825."""

from __future__ import annotations

from functools import cached_property

from octavo.executor.layers.decoder_layer import DecoderLayer
from octavo.executor.models.causal_lm import CausalLM
from octavo.sources.layer_windows import layer_windows


class Mistral(CausalLM):
    """Mistral: Llama with a sliding window in every layer, if any."""

    @cached_property
    def windows(self) -> tuple[int, ...]:
        """Keys that a query of each layer sees; 0 = all."""
        return layer_windows(self.config, "MistralForCausalLM")

    def layer(self, name: str, index: int) -> DecoderLayer:
        """One layer."""
        return DecoderLayer(
            self.attention(f"{name}.self_attn", self.rope, window=self.windows[index]),
            self.gated_mlp(f"{name}.mlp"),
            before_attention=self.rms_norm(f"{name}.input_layernorm"),
            before_mlp=self.rms_norm(f"{name}.post_attention_layernorm"),
        )
