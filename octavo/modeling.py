"""What a page of a model is written with: the contract, the layers and the ops. Packages with models of their own import this alone.

`docs/adding-a-model.md` shows a page.
"""

from octavo.cache_groups import CacheSpec
from octavo.executor.attention import AttentionMetadata, KVCache, RowInputs
from octavo.executor.layers.attention import Attention, AttentionShape
from octavo.executor.layers.classifier import VectorLinear
from octavo.executor.layers.decoder_layer import DecoderLayer, FeedForward
from octavo.executor.layers.embedding import LMHead, TokenEmbedding
from octavo.executor.layers.experts import SparseMLP
from octavo.executor.layers.functional import activate, add, attend, attend_fresh, call, rotate_and_keep, split, write_cache
from octavo.executor.layers.linear import ColumnLinear, GatedLinear, Placement, Product, RowLinear
from octavo.executor.layers.mlp import GatedMLP
from octavo.executor.layers.module import Module
from octavo.executor.layers.norm import LayerNorm, RMSNorm
from octavo.executor.layers.residual import Residual
from octavo.executor.layers.weights import Slot
from octavo.executor.models.build import Build
from octavo.executor.models.causal_lm import CausalLM, given
from octavo.executor.models.contract import HfConfig, Model, Page
from octavo.executor.models.encoder import Encoder
from octavo.executor.models.generative import Generative
from octavo.executor.models.programmed import Programmed
from octavo.executor.models.programs import Programs
from octavo.executor.models.registry import built_in, register
from octavo.kernels import ops
from octavo.kernels.program import Program, ProgramError, Value
from octavo.kernels.program_ops import CacheRef
from octavo.sources.rope import rope_parameters

__all__ = [
    "Attention",
    "AttentionMetadata",
    "AttentionShape",
    "Build",
    "CacheRef",
    "CacheSpec",
    "CausalLM",
    "ColumnLinear",
    "DecoderLayer",
    "Encoder",
    "FeedForward",
    "GatedLinear",
    "GatedMLP",
    "Generative",
    "HfConfig",
    "KVCache",
    "LMHead",
    "LayerNorm",
    "Model",
    "Module",
    "Page",
    "Placement",
    "Product",
    "Program",
    "ProgramError",
    "Programmed",
    "Programs",
    "RMSNorm",
    "Residual",
    "RowInputs",
    "RowLinear",
    "Slot",
    "SparseMLP",
    "TokenEmbedding",
    "Value",
    "VectorLinear",
    "activate",
    "add",
    "attend",
    "attend_fresh",
    "built_in",
    "call",
    "given",
    "ops",
    "register",
    "rope_parameters",
    "rotate_and_keep",
    "split",
    "write_cache",
]
