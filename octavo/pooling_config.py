"""What a pooling model makes of hidden states: read from its files by `octavo.sources.sentence_transformers`."""

from __future__ import annotations

from typing import Literal

import msgspec

from octavo.wire.pooling_spec import PoolingKind

DenseActivation = Literal["identity", "tanh", "relu", "gelu", "sigmoid"]
ClassActivation = Literal["identity", "sigmoid", "softmax"]


class DenseConfig(msgspec.Struct, frozen=True):
    """A layer behind pooling, whose weights lie in a folder of their own."""

    folder: str
    in_features: int
    out_features: int
    bias: bool
    activation: DenseActivation


class PoolingConfig(msgspec.Struct, frozen=True):
    """Of a model that is served for pooling."""

    task: Literal["embed", "classify"]
    """What it gives where a request does not say."""
    kinds: tuple[PoolingKind, ...]
    """How the hidden states of a whole prompt become one vector."""
    dense: tuple[DenseConfig, ...] = ()
    normalize: bool = True
    """Embeddings are normalized where a request does not say."""
    activation: ClassActivation = "softmax"
    """What makes a classifier's logits probabilities."""
    num_labels: int = 0
    """Of a classifier."""
    per_token: bool = False
    """A classifier of tokens."""
    dimensions: tuple[int, ...] | None = None
    """To which embeddings may be cut: none, any of these, or () = any at all."""
    use_activation: bool | None = None
    """What --pooler-config says in the place of requests that do not."""
