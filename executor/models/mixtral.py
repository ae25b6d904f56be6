"""Mixtral: https://arxiv.org/abs/2401.04088."""

from __future__ import annotations

from octavo.executor.layers.decoder_layer import DecoderLayer
from octavo.executor.layers.experts import SparseMLP
from octavo.executor.models.causal_lm import CausalLM, given
from octavo.sources.layer_windows import layer_windows


class Mixtral(CausalLM):
    """Mixtral: Mistral with eight experts, of which each token asks two, in the place of each feed-forward block."""

    def layer(self, name: str, index: int) -> DecoderLayer:
        """One layer."""
        window = layer_windows(self.config, "MixtralForCausalLM")[index]
        return DecoderLayer(
            self.attention(f"{name}.self_attn", self.rope, window=window),
            self.experts(name),
            before_attention=self.rms_norm(f"{name}.input_layernorm"),
            before_mlp=self.rms_norm(f"{name}.post_attention_layernorm"),
        )

    def experts(self, name: str) -> SparseMLP:
        """The feed-forward block of a layer."""
        return SparseMLP(
            f"{name}.block_sparse_moe",
            self.hidden_size,
            self.config["intermediate_size"],
            given(self.config, "num_local_experts", 8),
            given(self.config, "num_experts_per_tok", 2),
            self.activation,
            renormalize=True,
            parts=("w1", "w3", "w2"),
            place=self.build.place,
            fused=f"{name}.mlp",
        )
