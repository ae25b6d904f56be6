"""Phi 3 and 4: https://arxiv.org/abs/2404.14219."""

from __future__ import annotations

from octavo.executor.layers.decoder_layer import DecoderLayer
from octavo.executor.models.causal_lm import CausalLM


class Phi3(CausalLM):
    """Phi 3 and 4: Llama with q, k and v in one tensor, and gate and up in another; rotations may be partial, or longrope's."""

    architecture = "Phi3ForCausalLM"
    fused_weights = True

    def layer(self, name: str, index: int) -> DecoderLayer:
        """One layer."""
        return DecoderLayer(
            self.attention(f"{name}.self_attn", self.rope, window=self.windows[index]),
            self.gated_mlp(f"{name}.mlp"),
            before_attention=self.rms_norm(f"{name}.input_layernorm"),
            before_mlp=self.rms_norm(f"{name}.post_attention_layernorm"),
        )
