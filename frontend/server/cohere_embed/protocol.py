"""`/v2/embed`, Cohere's form: what comes in and what goes out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from octavo.frontend.server.body import BodyType, Refused
from octavo.frontend.server.fields import Int64
from octavo.frontend.server.score.protocol import ApiVersion
from octavo.params import MAX_INT

EmbeddingType = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]


class EmbedInput(msgspec.Struct):
    """An input in parts."""

    content: list[dict[str, Any]]


class EmbedRequest(msgspec.Struct, kw_only=True):
    """Body of an embedding request in Cohere's form."""

    model: str | None = None
    texts: list[str] | None = None
    inputs: list[EmbedInput] | None = None
    input_type: str | None = None
    """What the texts are for: the model's prompt for that goes before each."""
    output_dimension: Int64 | None = None
    embedding_types: list[EmbeddingType] | None = None
    truncate: Literal["NONE", "START", "END"] | None = None
    """Where a text that is too long is cut; unset = at its end."""
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=MAX_INT)] | None = None
    """Tokens of each text that are read."""
    priority: Int64 | None = None
    request_id: str | None = None
    cache_salt: str | None = None
    timeout: Annotated[float, msgspec.Meta(gt=0)] | None = None


EMBED_BODY = BodyType(EmbedRequest, refused={"images": Refused("the model takes text only", (None, []))})


class EmbedMeta(msgspec.Struct):
    """What Cohere's clients read of the cost of a request."""

    billed_units: dict[str, int]
    api_version: ApiVersion = msgspec.field(default_factory=ApiVersion)


class EmbedAnswer(msgspec.Struct):
    """The vectors, in each of the types that were asked for."""

    id: str
    embeddings: dict[str, list[Any]]
    texts: list[str]
    meta: EmbedMeta
    response_type: str = "embeddings_by_type"
