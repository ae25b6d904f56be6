"""`/v1/embeddings`: what comes in and what goes out."""

from __future__ import annotations

import msgspec

from octavo.frontend.server.body import BodyType
from octavo.frontend.server.fields import Int64
from octavo.frontend.server.pooling.fields import REFUSED, WITHOUT_EFFECT, EncodedInputFields


class EmbeddingRequest(EncodedInputFields, kw_only=True):
    """Body of an embedding request."""

    dimensions: Int64 | None = None
    """Numbers of each vector, for models whose vectors may be cut."""


EMBEDDING_BODY = BodyType(EmbeddingRequest, refused=REFUSED, without_effect=WITHOUT_EFFECT)


class Embedding(msgspec.Struct):
    """The vector of one input."""

    index: int
    embedding: str | msgspec.Raw
    object: str = "embedding"
