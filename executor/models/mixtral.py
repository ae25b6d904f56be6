"""Mixtral: https://arxiv.org/abs/2401.04088."""

from __future__ import annotations

from octavo.executor.layers.decoder_layer import DecoderLayer
from octavo.executor.layers.experts import SparseMLP
from octavo.executor.models.causal_lm import CausalLM
from octavo.sources.hf_config import expert_counts


class Mixtral(CausalLM):
    """Mixtral: Mistral with eight experts, of which each token asks two, in the place of each feed-forward block."""

    architecture = "MixtralForCausalLM"

    def layer(self, name: str, index: int) -> DecoderLayer:
        """One layer."""
        return DecoderLayer(
            self.attention(f"{name}.self_attn", self.rope, window=self.windows[index]),
            self.experts(name),
            before_attention=self.rms_norm(f"{name}.input_layernorm"),
            before_mlp=self.rms_norm(f"{name}.post_attention_layernorm"),
        )

    def experts(self, name: str) -> SparseMLP:
        """The feed-forward block of a layer."""
        top_k, num_experts = expert_counts(self.config)
        return SparseMLP(
            f"{name}.block_sparse_moe",
            self.hidden_size,
            self.config["intermediate_size"],
            num_experts,
            top_k,
            self.activation,
            renormalize=True,
            parts=("w1", "w3", "w2"),
            place=self.build.place,
            fused=f"{name}.mlp",
        )
